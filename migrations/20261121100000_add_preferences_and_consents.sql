-- What recipients and tenants decide about notifications, and what the claim has to know of it.
-- Safe beside running code: tables are new, columns have defaults or may be empty, and what is checked holds for every row
-- that the old code writes. `recipients` and `tenants` are rewritten once, because each row gets a random value of its own;
-- writers of them wait for as long as that takes, and claims with them.
SET LOCAL ROLE harkara_owner;

-- Who somebody is to preferences, consents and links, without saying who that is.

-- Makes digests of addresses useless to whoever does not have the tenant's row.
ALTER TABLE harkara.tenants
    ADD COLUMN salt bytea NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

-- A recipient's preferences, consents and links name this id. Erasing the recipient gives the row another one, so that
-- nothing leads from what is left back to the person.
ALTER TABLE harkara.recipients
    ADD COLUMN subject_id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN erased_at timestamptz,
    ADD CONSTRAINT one_recipient_for_a_subject UNIQUE (tenant_id, subject_id),
    DROP CONSTRAINT recipient_has_an_address,
    ADD CONSTRAINT recipient_has_an_address_unless_erased CHECK ((email IS NOT NULL OR phone IS NOT NULL) = (erased_at IS NULL));

CREATE INDEX recipients_by_phone ON harkara.recipients (tenant_id, phone);
-- The order of the report of those whom nothing reaches.
CREATE INDEX recipients_by_time ON harkara.recipients (tenant_id, created_at, subject_id);

-- The subject behind an address that was given with a request.
CREATE FUNCTION harkara.address_subject(p_salt bytea, p_address text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN encode(substring(sha256(p_salt || convert_to(lower(p_address), 'UTF8')) FOR 16), 'hex')::uuid;

-- Replaces the named keys by a digest that shows a change without showing the value. The tenant's salt is in it, so that
-- whoever reads the log cannot find a phone number by trying them all.
CREATE OR REPLACE FUNCTION harkara.hide_values(shown jsonb, hidden text[], tenant uuid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT coalesce(jsonb_object_agg(
        key,
        CASE WHEN key = ANY (hidden) AND value <> 'null'
             THEN to_jsonb('sha256:' || left(encode(sha256(
                      (SELECT t.salt FROM harkara.tenants t WHERE t.tenant_id = tenant) || convert_to(value::text, 'UTF8')), 'hex'), 16))
             ELSE value END), '{}')
    FROM jsonb_each(shown)
$$;

-- The trigger behind every audited table; statement level, so that a batch costs one insert.
-- Arguments: the key columns, then the hidden ones, then those that the log knows nothing of; all comma separated.
-- SECURITY DEFINER because no login role may insert into the log itself, or read a salt.
-- It runs with every claim and record, so what each row needs stands in the statements: a call of a SQL function
-- that aggregates is not inlined and costs more than the rest of the row. Few rows have something to hide.
CREATE OR REPLACE FUNCTION harkara.write_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keys     text[] := string_to_array(TG_ARGV[0], ',');
    hidden   text[] := string_to_array(TG_ARGV[1], ',');
    left_out text[] := array_prepend('tenant_id'::text, string_to_array(TG_ARGV[2], ','));
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, new_values)
        SELECT n.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP,
               (SELECT jsonb_object_agg(k, to_jsonb(n) -> k) FROM unnest(keys) k),
               CASE WHEN shown.row_values ?| hidden THEN harkara.hide_values(shown.row_values, hidden, n.tenant_id)
                    ELSE shown.row_values END
        FROM new_rows n
        CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(to_jsonb(n) - keys - left_out) AS row_values) shown;
    ELSIF TG_OP = 'UPDATE' THEN
        -- Each row and its key are made once; the join then compares keys only.
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, old_values, new_values)
        WITH n AS MATERIALIZED (
            SELECT r.tenant_id, to_jsonb(r) - left_out AS whole,
                   (SELECT jsonb_object_agg(k, to_jsonb(r) -> k) FROM unnest(keys) k) AS row_key
            FROM new_rows r
        ),
        o AS MATERIALIZED (
            SELECT r.tenant_id, to_jsonb(r) AS whole,
                   (SELECT jsonb_object_agg(k, to_jsonb(r) -> k) FROM unnest(keys) k) AS row_key
            FROM old_rows r
        )
        SELECT n.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP, n.row_key,
               CASE WHEN changed.old_values ?| hidden THEN harkara.hide_values(changed.old_values, hidden, n.tenant_id)
                    ELSE changed.old_values END,
               CASE WHEN changed.new_values ?| hidden THEN harkara.hide_values(changed.new_values, hidden, n.tenant_id)
                    ELSE changed.new_values END
        FROM n
        JOIN o USING (tenant_id, row_key)
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(e.key, o.whole -> e.key) AS old_values,
                   jsonb_object_agg(e.key, e.value) AS new_values
            FROM jsonb_each(n.whole) e
            WHERE e.value IS DISTINCT FROM o.whole -> e.key
        ) changed
        WHERE changed.new_values IS NOT NULL;
    ELSE
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, old_values)
        SELECT o.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP,
               (SELECT jsonb_object_agg(k, to_jsonb(o) -> k) FROM unnest(keys) k),
               CASE WHEN shown.row_values ?| hidden THEN harkara.hide_values(shown.row_values, hidden, o.tenant_id)
                    ELSE shown.row_values END
        FROM old_rows o
        CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(to_jsonb(o) - keys - left_out) AS row_values) shown;
    END IF;
    RETURN NULL;
END
$$;

-- Gives an audited table other columns to hide, and such as the log is to know nothing of.
CREATE PROCEDURE harkara.audit_table_anew(
    audited regclass, key_columns text, hidden_columns text, left_out_columns text DEFAULT '')
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    operation text;
BEGIN
    FOREACH operation IN ARRAY '{INSERT, UPDATE, DELETE}'::text[] LOOP
        EXECUTE format('DROP TRIGGER audit_%s ON %s', lower(operation), audited);
        EXECUTE format(
            'CREATE TRIGGER audit_%s AFTER %s ON %s REFERENCING %s
             FOR EACH STATEMENT EXECUTE FUNCTION harkara.write_audit(%L, %L, %L)',
            lower(operation), operation, audited,
            CASE operation
                WHEN 'INSERT' THEN 'NEW TABLE AS new_rows'
                WHEN 'UPDATE' THEN 'OLD TABLE AS old_rows NEW TABLE AS new_rows'
                ELSE 'OLD TABLE AS old_rows'
            END,
            key_columns, hidden_columns, left_out_columns);
    END LOOP;
END
$$;

-- The audit keeps neither the salt nor what a draft says. Of a recipient it keeps the id: not who that is to preferences
-- and consents, or what is left of them after an erasure would lead back to it.
CALL harkara.audit_table_anew('harkara.tenants', 'tenant_id', 'salt');
CALL harkara.audit_table_anew('harkara.recipients', 'recipient_id', 'email,phone,name,locale,time_zone,roles,attributes', 'subject_id');
CALL harkara.audit_table_anew('harkara.templates', 'template_key', 'draft');

-- What a category asks of its recipients.
ALTER TABLE harkara.categories
    -- What people call it, where they choose.
    ADD COLUMN name text,
    ADD COLUMN description text,
    ADD COLUMN quiet_hours_apply boolean NOT NULL DEFAULT false,
    -- Roles whose holders get it whatever they prefer; '*' is everybody.
    ADD COLUMN unmutable_roles text[] NOT NULL DEFAULT '{}',
    -- What the recipient has to have agreed to.
    ADD COLUMN consent_purpose text,
    -- At most so many to one recipient in so long.
    ADD COLUMN throttle_limit integer,
    ADD COLUMN throttle_window_seconds integer,
    ADD CONSTRAINT throttle_is_whole CHECK ((throttle_limit IS NULL) = (throttle_window_seconds IS NULL)),
    ADD CONSTRAINT throttle_limit_is_bounded CHECK (throttle_limit BETWEEN 1 AND 1000),
    ADD CONSTRAINT throttle_window_is_bounded CHECK (throttle_window_seconds BETWEEN 1 AND 2592000);

UPDATE harkara.categories SET quiet_hours_apply = true WHERE class IN ('marketing', 'reminder', 'digest');
UPDATE harkara.categories SET unmutable_roles = '{*}' WHERE class IN ('security', 'regulatory');

-- A tenant says for itself what recipients without a locale or zone of their own get.
GRANT UPDATE (locale, time_zone, updated_at) ON harkara.tenants TO harkara_api;

-- What a tenant decides for all its categories. Without a row, nothing of it is decided.
CREATE TABLE harkara.tenant_settings (
    tenant_id          uuid        PRIMARY KEY REFERENCES harkara.tenants,
    -- At most so many marketing, reminder and digest notifications to one recipient in so long.
    cap_limit          integer,
    cap_window_seconds integer,
    -- When a daily or weekly cadence ends, in the recipient's zone.
    digest_time        time        NOT NULL DEFAULT '09:00',
    -- By ISO 8601: 1 is Monday.
    digest_weekday     integer     NOT NULL DEFAULT 1,
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cap_is_whole CHECK ((cap_limit IS NULL) = (cap_window_seconds IS NULL)),
    CONSTRAINT cap_limit_is_bounded CHECK (cap_limit BETWEEN 1 AND 1000),
    CONSTRAINT cap_window_is_bounded CHECK (cap_window_seconds BETWEEN 1 AND 2592000),
    CONSTRAINT digest_weekday_is_one CHECK (digest_weekday BETWEEN 1 AND 7)
);

-- What somebody wants, by category and channel; '*' is all of them. NULL says nothing about that value.
-- The nil subject is the tenant: what it wants for those who say nothing.
CREATE TABLE harkara.preferences (
    tenant_id    uuid        NOT NULL REFERENCES harkara.tenants,
    subject_id   uuid        NOT NULL,
    category_key text        NOT NULL,
    channel      text        NOT NULL,
    is_on        boolean,
    cadence      text,
    -- No quiet hours are wanted where both are the same.
    quiet_from   time,
    quiet_until  time,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subject_id, category_key, channel),
    CONSTRAINT channel_is_known CHECK (channel IN ('*', 'email', 'sms', 'push', 'slack', 'teams', 'voice', 'in_app')),
    CONSTRAINT cadence_is_known CHECK (cadence IN ('immediate', 'hourly', 'daily', 'weekly')),
    CONSTRAINT quiet_hours_have_both_ends CHECK ((quiet_from IS NULL) = (quiet_until IS NULL)),
    CONSTRAINT preference_says_something CHECK (num_nonnulls(is_on, cadence, quiet_from) > 0)
);

-- What somebody agreed to and took back, as it was said. The newest entry holds. Nothing is ever changed in it;
-- erasing a recipient empties the evidence.
CREATE TABLE harkara.consents (
    tenant_id   uuid        NOT NULL REFERENCES harkara.tenants,
    consent_id  uuid        NOT NULL,
    subject_id  uuid        NOT NULL,
    purpose     text        NOT NULL,
    -- '*' is every channel.
    channel     text        NOT NULL,
    is_granted  boolean     NOT NULL,
    -- Where it was said: a form, a contract, a call.
    source      text        NOT NULL,
    evidence    jsonb       NOT NULL DEFAULT '{}',
    -- When it was said, as the source tells; the order of the ledger is that of its entries.
    said_at     timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    entry       bigint      GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, consent_id),
    CONSTRAINT channel_is_known CHECK (channel IN ('*', 'email', 'sms', 'push', 'slack', 'teams', 'voice', 'in_app'))
);

CREATE INDEX consents_by_subject ON harkara.consents (tenant_id, subject_id, purpose, entry);

-- Sends to somebody that a throttle or the frequency cap counts, while they count. A claim takes a slot; an attempt that
-- surely sent nothing gives it back, and one that sent, or may have, confirms it.
CREATE TABLE harkara.send_slots (
    tenant_id    uuid        NOT NULL,
    delivery_id  uuid        NOT NULL,
    subject_id   uuid        NOT NULL,
    category_key text        NOT NULL,
    is_capped    boolean     NOT NULL,
    -- False while the attempt is under way: nothing may come of it yet.
    is_confirmed boolean     NOT NULL DEFAULT false,
    taken_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, delivery_id)
);

CREATE INDEX send_slots_by_subject ON harkara.send_slots (tenant_id, subject_id, taken_at);

-- Counts, for each delivery that is about to be sent, what went to the same subject in the windows of its throttle and of
-- its tenant's cap, and beside it what is under way; where both together leave room, takes a slot for it. Sandbox
-- deliveries reach nobody: they are told the counts, and take none.
-- Two claims of one subject come one after the other: each sees the other's slots. It is a function because its
-- statements see what was committed while it waited; the claim's own would not. Locks are taken after all others of a
-- claim, and in order.
CREATE FUNCTION harkara.take_send_slots(
    p_tenants uuid[], p_deliveries uuid[], p_subjects uuid[], p_categories text[], p_sandboxes boolean[],
    p_throttle_limits integer[], p_throttle_seconds integer[], p_cap_limits integer[], p_cap_seconds integer[],
    p_lease_seconds integer
) RETURNS TABLE (
    delivery_id uuid, throttle_count integer, throttle_pending integer, cap_count integer, cap_pending integer)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    asked record;
    clock timestamptz;
BEGIN
    IF coalesce(cardinality(p_deliveries), 0) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(l.key)
    FROM (SELECT DISTINCT hashtextextended(t::text || s::text, 1) AS key FROM unnest(p_tenants, p_subjects) a (t, s) ORDER BY 1) l;
    clock := clock_timestamp();
    FOR asked IN
        SELECT * FROM unnest(p_tenants, p_deliveries, p_subjects, p_categories, p_sandboxes,
                             p_throttle_limits, p_throttle_seconds, p_cap_limits, p_cap_seconds)
            AS a (tenant_id, delivery_id, subject_id, category_key, is_sandbox,
                  throttle_limit, throttle_seconds, cap_limit, cap_seconds)
        ORDER BY a.delivery_id
    LOOP
        delivery_id := asked.delivery_id;
        SELECT count(*) FILTER (WHERE s.is_throttled AND s.is_settled), count(*) FILTER (WHERE s.is_throttled AND NOT s.is_settled),
               count(*) FILTER (WHERE s.is_capped AND s.is_settled), count(*) FILTER (WHERE s.is_capped AND NOT s.is_settled)
        INTO throttle_count, throttle_pending, cap_count, cap_pending
        FROM (
            SELECT o.category_key = asked.category_key
                       AND o.taken_at > clock - make_interval(secs => asked.throttle_seconds) AS is_throttled,
                   o.is_capped AND o.taken_at > clock - make_interval(secs => asked.cap_seconds) AS is_capped,
                   -- An attempt that was not heard of before its lease ended may have sent.
                   o.is_confirmed OR o.taken_at <= clock - make_interval(secs => p_lease_seconds) AS is_settled
            FROM harkara.send_slots o
            WHERE o.tenant_id = asked.tenant_id AND o.subject_id = asked.subject_id AND o.delivery_id <> asked.delivery_id
        ) s;
        -- What no window can reach any more goes with the next send.
        DELETE FROM harkara.send_slots s
        WHERE s.tenant_id = asked.tenant_id AND s.subject_id = asked.subject_id AND s.taken_at < clock - interval '30 days';
        -- No slot for what will not be sent now. NULL is no limit.
        IF NOT asked.is_sandbox AND (throttle_count + throttle_pending < asked.throttle_limit) IS NOT FALSE
           AND (cap_count + cap_pending < asked.cap_limit) IS NOT FALSE THEN
            -- One that is there still is of an earlier attempt that nobody saw fail.
            INSERT INTO harkara.send_slots AS s (tenant_id, delivery_id, subject_id, category_key, is_capped, taken_at)
            VALUES (asked.tenant_id, asked.delivery_id, asked.subject_id, asked.category_key, asked.cap_seconds IS NOT NULL, clock)
            ON CONFLICT (tenant_id, delivery_id) DO UPDATE SET taken_at = excluded.taken_at, is_confirmed = true;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- What was found when the delivery was last decided about, and what came of it: domain::decision.
ALTER TABLE harkara.deliveries ADD COLUMN decision jsonb;
-- A digest of what was sent, so that what is rendered again can be held against it.
ALTER TABLE harkara.attempts ADD COLUMN content_hash bytea;

-- Templates: one draft that is worked on, and publications that are never changed.
ALTER TABLE harkara.templates
    ADD COLUMN kind text NOT NULL DEFAULT 'message',
    ADD COLUMN draft jsonb,
    ADD COLUMN draft_updated_at timestamptz,
    -- NULL: from before publications, when each channel and locale counted for itself; the newest version holds.
    ADD COLUMN published_version integer,
    ADD CONSTRAINT template_kind_is_known CHECK (kind IN ('message', 'partial', 'layout'));

ALTER TABLE harkara.template_versions ADD COLUMN short_text text;

CREATE TABLE harkara.template_publications (
    tenant_id    uuid        NOT NULL,
    template_key text        NOT NULL,
    version      integer     NOT NULL,
    -- As it was written; what is sent stands in template_versions, compiled.
    draft        jsonb       NOT NULL,
    -- What the template wants of a notification's data; domain::template.
    variables    jsonb       NOT NULL DEFAULT '{}',
    content_hash bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, template_key, version),
    FOREIGN KEY (tenant_id, template_key) REFERENCES harkara.templates,
    CONSTRAINT version_is_positive CHECK (version > 0)
);

-- What a request's decisions need, in one answer: as before, but for what templates ask of data, and without erased recipients.
CREATE OR REPLACE FUNCTION harkara.read_enqueue_context(
    p_tenant          uuid,
    p_route           text,
    p_idempotency_key text,
    p_recipients      text[],
    p_categories      text[],
    p_templates       text[]
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.set_tenant(p_tenant);
    RETURN (
        SELECT jsonb_build_object(
            'now', now(),
            'tenant_state', (SELECT t.state FROM harkara.tenants t WHERE t.tenant_id = p_tenant),
            -- The answer to an earlier request with this key.
            'stored_answer', (
                SELECT jsonb_build_object(
                    'request_hash', encode(k.request_hash, 'hex'), 'request_id', k.request_id, 'answer', k.answer)
                FROM harkara.idempotency_keys k
                WHERE k.tenant_id = p_tenant AND k.route = p_route AND k.idempotency_key = p_idempotency_key
                  AND k.expires_at > now()),
            'recipients', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'recipient_id', r.recipient_id, 'has_email', r.email IS NOT NULL, 'has_phone', r.phone IS NOT NULL)), '[]')
                FROM harkara.recipients r
                WHERE r.tenant_id = p_tenant AND r.recipient_id = ANY (p_recipients) AND r.erased_at IS NULL),
            'categories', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'category_key', c.category_key, 'channels', c.channels,
                    'template_key', c.template_key, 'max_attempts', c.max_attempts,
                    'unknown_policy', c.unknown_policy, 'reconcile_window_seconds', c.reconcile_window_seconds)), '[]')
                FROM harkara.categories c
                WHERE c.tenant_id = p_tenant AND c.category_key = ANY (p_categories)),
            -- Those that are named, and those of the named categories; a draft alone is none.
            'templates', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'template_key', t.template_key, 'variables', p.variables)), '[]')
                FROM harkara.templates t
                LEFT JOIN harkara.template_publications p
                    ON p.tenant_id = t.tenant_id AND p.template_key = t.template_key AND p.version = t.published_version
                WHERE t.tenant_id = p_tenant AND t.kind = 'message' AND (t.published_version IS NOT NULL OR t.draft IS NULL)
                  AND (t.template_key = ANY (p_templates)
                       OR t.template_key IN (SELECT c.template_key FROM harkara.categories c
                                             WHERE c.tenant_id = p_tenant AND c.category_key = ANY (p_categories))))
        )
    );
END
$$;

-- A recipient's own token sees that recipient's rows only.

-- The recipients that this transaction may see, NULL where it may see all of its tenant.
-- The setting is JSON, so that a transaction of a recipient that does not exist sees nobody and not everybody.
CREATE FUNCTION harkara.visible_recipients() RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT array_agg(r) FROM jsonb_array_elements_text(nullif(current_setting('harkara.recipients', true), '')::jsonb) r);

-- Whether this transaction sees its whole tenant.
CREATE FUNCTION harkara.sees_all_recipients() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('harkara.recipients', true), '') IS NULL;

-- Like enter_tenant, for a recipient's own token: by its id, or by every recipient with its phone number.
CREATE FUNCTION harkara.enter_recipient(tenant uuid, actor text, recipient text, phone_number text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    seen jsonb;
BEGIN
    PERFORM harkara.set_tenant(tenant, actor);
    SELECT coalesce(jsonb_agg(r.recipient_id), '[]') INTO seen
    FROM harkara.recipients r
    WHERE r.tenant_id = tenant AND r.erased_at IS NULL
      AND (r.recipient_id = recipient OR r.phone = phone_number);
    PERFORM set_config('harkara.recipients', seen::text, true);
    RETURN (SELECT t.state FROM harkara.tenants t WHERE t.tenant_id = tenant);
END
$$;

CREATE POLICY recipient_sees_its_own ON harkara.recipients AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR recipient_id = ANY ((SELECT harkara.visible_recipients())::text[]));
CREATE POLICY recipient_sees_its_own ON harkara.notifications AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR recipient_id = ANY ((SELECT harkara.visible_recipients())::text[]));
CREATE POLICY recipient_sees_its_own ON harkara.deliveries AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR EXISTS (
    SELECT FROM harkara.notifications n
    WHERE n.tenant_id = deliveries.tenant_id AND n.notification_id = deliveries.notification_id));
CREATE POLICY recipient_sees_its_own ON harkara.attempts AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR EXISTS (
    SELECT FROM harkara.deliveries d
    WHERE d.tenant_id = attempts.tenant_id AND d.delivery_id = attempts.delivery_id));

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.tenant_settings, harkara.preferences, harkara.consents, harkara.send_slots,
                               harkara.template_publications}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
    END LOOP;
    -- What is the tenant's own business is nothing to its recipients.
    FOREACH guarded IN ARRAY '{harkara.suppressions, harkara.soft_bounces, harkara.dead_letters, harkara.audit_log,
                               harkara.dedupe_keys, harkara.tenant_settings}'::regclass[] LOOP
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
    END LOOP;
    FOREACH guarded IN ARRAY '{harkara.preferences, harkara.consents}'::regclass[] LOOP
        EXECUTE format('CREATE POLICY recipient_sees_its_own ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients())
                               OR subject_id = ''00000000-0000-0000-0000-000000000000''
                               OR EXISTS (SELECT FROM harkara.recipients r
                                          WHERE r.tenant_id = %2$s.tenant_id AND r.subject_id = %2$s.subject_id))
                        WITH CHECK ((SELECT harkara.sees_all_recipients())
                               OR EXISTS (SELECT FROM harkara.recipients r
                                          WHERE r.tenant_id = %2$s.tenant_id AND r.subject_id = %2$s.subject_id))',
                       guarded, (SELECT relname FROM pg_class WHERE oid = guarded));
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE ON harkara.tenant_settings TO harkara_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON harkara.preferences TO harkara_api;
GRANT SELECT, INSERT ON harkara.consents, harkara.template_publications TO harkara_api;

CALL harkara.admit_worker('harkara.tenant_settings', 'SELECT');
CALL harkara.admit_worker('harkara.preferences', 'SELECT');
CALL harkara.admit_worker('harkara.consents', 'SELECT');
CALL harkara.admit_worker('harkara.send_slots', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL harkara.audit_table('harkara.tenant_settings', 'tenant_id');
CALL harkara.audit_table('harkara.preferences', 'subject_id,category_key,channel');
CALL harkara.audit_table('harkara.consents', 'consent_id', 'evidence');
CALL harkara.audit_table('harkara.template_publications', 'template_key,version', 'draft');

-- For harkara.erase_recipient, which comes with the files that it deletes.
CREATE POLICY owner_erases ON harkara.recipients TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.notifications TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.deliveries TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.events TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.preferences TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.consents TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.send_slots TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.address_subject, harkara.visible_recipients, harkara.sees_all_recipients TO harkara_api, harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.enter_recipient TO harkara_api;
GRANT EXECUTE ON FUNCTION harkara.take_send_slots TO harkara_worker;

RESET ROLE;
