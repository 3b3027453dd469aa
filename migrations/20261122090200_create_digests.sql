-- Digests: what recipients want to hear of by the hour, day or week waits and leaves as one message for all of it.
-- Safe beside running code: tables are new, columns may be empty or have defaults, and code that knows nothing of digests
-- leaves what it holds to the dispatcher, as before. The index of recipients' zones makes writers of recipients wait for as
-- long as it takes to read the table once.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.categories
    -- The category of the digest that collects what waits of this one; NULL leaves that to the tenant's settings.
    ADD COLUMN digest_category text,
    -- For a category of digests: a rhythm of its own, by which those get it who hold one of the roles, or one of
    -- unmutable_roles; NULL closes only what somebody's cadence has collected.
    ADD COLUMN digest_cadence text,
    ADD COLUMN digest_roles text[] NOT NULL DEFAULT '{}',
    -- Whether it goes by its own rhythm with nothing in it, too. Who cannot switch it off gets it in any case.
    ADD COLUMN digest_send_empty boolean NOT NULL DEFAULT false,
    -- Where a recipient finds what a digest has no room for.
    ADD COLUMN digest_more_url text,
    ADD CONSTRAINT digest_cadence_is_known CHECK (digest_cadence IN ('hourly', 'daily', 'weekly')),
    ADD CONSTRAINT only_digests_have_a_rhythm CHECK (
        class = 'digest' OR (digest_cadence IS NULL AND digest_roles = '{}' AND NOT digest_send_empty AND digest_more_url IS NULL)),
    ADD CONSTRAINT rhythm_reaches_somebody CHECK (
        digest_cadence IS NULL OR cardinality(digest_roles) + cardinality(unmutable_roles) > 0),
    ADD CONSTRAINT digest_is_not_collected CHECK (class <> 'digest' OR digest_category IS NULL),
    ADD FOREIGN KEY (tenant_id, digest_category) REFERENCES harkara.categories;

-- The tenants whose digests have a rhythm of their own.
CREATE INDEX categories_with_rhythm ON harkara.categories (tenant_id, category_key) WHERE digest_cadence IS NOT NULL;

-- The category of the digest for categories that name none; NULL lets each delivery go by itself when it is due.
ALTER TABLE harkara.tenant_settings
    ADD COLUMN digest_category text,
    ADD FOREIGN KEY (tenant_id, digest_category) REFERENCES harkara.categories;

-- A digest has a time in each zone, so its recipients are looked for by zone; '' are those who have none of their own.
CREATE INDEX recipients_by_zone ON harkara.recipients (tenant_id, coalesce(time_zone, ''), recipient_id);

-- One closed period of one recipient: what was collected until its end left with this notification.
CREATE TABLE harkara.digests (
    tenant_id       uuid        NOT NULL,
    notification_id uuid        NOT NULL,
    recipient_id    text        NOT NULL,
    category_key    text        NOT NULL,
    channel         text        NOT NULL,
    period_end_at   timestamptz NOT NULL,
    -- Whether the category's own rhythm closed it, or only what was in it.
    is_regular      boolean     NOT NULL,
    member_count    integer     NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, notification_id),
    -- Whatever overlaps or repeats: a period is closed once.
    CONSTRAINT one_digest_for_a_period UNIQUE (tenant_id, recipient_id, category_key, channel, period_end_at),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES harkara.notifications ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories,
    CONSTRAINT members_are_counted_up CHECK (member_count >= 0)
);

-- A held delivery that waits for a digest, and then the digest that it left with.
-- Whether it still waits, its delivery's state says: what was canceled, expired or sent by itself is found gone at the close.
CREATE TABLE harkara.digest_entries (
    tenant_id       uuid        NOT NULL,
    delivery_id     uuid        NOT NULL,
    recipient_id    text        NOT NULL,
    channel         text        NOT NULL,
    -- Of the digest.
    category_key    text        NOT NULL,
    -- The recipient's, by which it waits.
    cadence         text        NOT NULL,
    -- The end of the period.
    due_at          timestamptz NOT NULL,
    digest_notification_id uuid,
    created_at      timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES harkara.deliveries ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories,
    FOREIGN KEY (tenant_id, digest_notification_id) REFERENCES harkara.digests ON DELETE CASCADE,
    CONSTRAINT cadence_is_known CHECK (cadence IN ('immediate', 'hourly', 'daily', 'weekly'))
);

-- What waits, and only that: history is in neither.
-- The first has a condition of its own, which is always true, so that nobody but who names it reads by it: what is looked
-- for by recipient would else be found by reading all that is due, because the statistics know nothing of what came since.
CREATE INDEX digest_entries_due ON harkara.digest_entries (tenant_id, due_at)
WHERE digest_notification_id IS NULL AND due_at > '-infinity';
CREATE INDEX digest_entries_waiting ON harkara.digest_entries (tenant_id, recipient_id, category_key, channel, due_at)
WHERE digest_notification_id IS NULL;
CREATE INDEX digest_entries_by_digest ON harkara.digest_entries (tenant_id, digest_notification_id, delivery_id)
WHERE digest_notification_id IS NOT NULL;

-- When a category with a rhythm of its own is closed next, for each zone that its recipients may be in.
CREATE TABLE harkara.digest_rounds (
    tenant_id       uuid        NOT NULL,
    category_key    text        NOT NULL,
    -- '' is for recipients who have none of their own.
    time_zone       text        NOT NULL,
    -- What due_at was worked out from; where that has changed, it is worked out anew.
    basis           text        NOT NULL,
    due_at          timestamptz NOT NULL,
    -- The last recipient who was served of the period that is being closed; NULL before the first.
    after_recipient text,
    PRIMARY KEY (tenant_id, category_key, time_zone),
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories
);

-- What waits for a digest is decided about anew as soon as the recipient says something else: that it is wanted at once,
-- or not at all. Nothing waits for a message that cannot bring it any more.
CREATE FUNCTION harkara.decide_held_anew() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE harkara.deliveries d
    SET not_before = harkara.now(), due_at = harkara.now(), updated_at = harkara.now()
    FROM (SELECT DISTINCT c.tenant_id, c.subject_id FROM changed_rows c) c
    JOIN harkara.recipients r USING (tenant_id, subject_id)
    JOIN harkara.digest_entries e USING (tenant_id, recipient_id)
    WHERE e.digest_notification_id IS NULL
      AND d.tenant_id = e.tenant_id AND d.delivery_id = e.delivery_id AND d.state = 'held' AND d.reason = 'cadence_not_due';
    RETURN NULL;
END
$$;

CREATE TRIGGER held_is_decided_anew_by_new AFTER INSERT ON harkara.preferences
REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION harkara.decide_held_anew();
CREATE TRIGGER held_is_decided_anew_by_other AFTER UPDATE ON harkara.preferences
REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION harkara.decide_held_anew();
CREATE TRIGGER held_is_decided_anew_by_none AFTER DELETE ON harkara.preferences
REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION harkara.decide_held_anew();
CREATE TRIGGER held_is_decided_anew AFTER INSERT ON harkara.consents
REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION harkara.decide_held_anew();

-- One digest at a time for each tenant. Another one passes the tenant over, and comes again in a few minutes.
CREATE FUNCTION harkara.try_digest_lock(p_tenant uuid) RETURNS boolean
LANGUAGE sql VOLATILE
RETURN pg_try_advisory_xact_lock(hashtextextended('digest ' || p_tenant::text, 0));

CALL harkara.guard_table('harkara.digests');
CALL harkara.guard_table('harkara.digest_entries');
CALL harkara.guard_table('harkara.digest_rounds');

CREATE POLICY recipient_sees_its_own ON harkara.digests AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR recipient_id = ANY ((SELECT harkara.visible_recipients())::text[]));
CREATE POLICY recipient_sees_its_own ON harkara.digest_entries AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()) OR recipient_id = ANY ((SELECT harkara.visible_recipients())::text[]));
CREATE POLICY no_recipient_sees_it ON harkara.digest_rounds AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()));
-- An erasure deletes preferences, and what that leads to is found by the owner's rights.
CREATE POLICY owner_erases ON harkara.digest_entries TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));

GRANT SELECT ON harkara.digests, harkara.digest_entries TO harkara_api;
CALL harkara.admit_worker('harkara.digests', 'SELECT', 'INSERT');
CALL harkara.admit_worker('harkara.digest_entries', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL harkara.admit_worker('harkara.digest_rounds', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL harkara.audit_table('harkara.digests', 'notification_id');
CALL harkara.audit_table('harkara.digest_entries', 'delivery_id');
CALL harkara.audit_table('harkara.digest_rounds', 'category_key,time_zone');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.try_digest_lock TO harkara_worker;

RESET ROLE;
