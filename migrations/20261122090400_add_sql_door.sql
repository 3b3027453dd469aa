-- The SQL door: a domain that shares the Postgres asks for notifications within its own transaction.
-- Safe beside running code: tables and functions are new; harkara.erase_recipient does as before, and one thing more.
--
-- harkara_domain  what a domain's login roles are members of: may call harkara.enqueue and harkara.cancel, and reads nothing
DO $$
BEGIN
    CREATE ROLE harkara_domain NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Roles are the cluster's: another database of it was here before, or is at this moment.
    NULL;
END
$$;

SET LOCAL ROLE harkara_owner;

GRANT USAGE ON SCHEMA harkara TO harkara_domain;

-- Whose door a login role goes through. A role is in it once; harkara.open_door sees to that.
CREATE TABLE harkara.door_roles (
    tenant_id  uuid        NOT NULL REFERENCES harkara.tenants,
    role_name  text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, role_name)
);

-- What came through the door and is no notification yet: the dispatcher takes it, or refuses it with its reasons.
CREATE TABLE harkara.door_requests (
    tenant_id    uuid        NOT NULL REFERENCES harkara.tenants,
    -- The id of the notification that it becomes.
    request_id   uuid        NOT NULL,
    -- The known recipient, so that what is kept of a person can be erased.
    recipient_id text,
    -- As POST /v1/notifications takes it.
    request      jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT harkara.now(),
    -- When the dispatcher has to look at it. Not when its transaction began, as above: one that began earlier may ask later,
    -- of what the other has changed, and a debounce keeps the first old value and the last new one.
    due_at       timestamptz DEFAULT harkara.clock(),
    refused_at   timestamptz,
    -- Why it was refused: [{pointer, detail}].
    errors       jsonb,
    PRIMARY KEY (tenant_id, request_id),
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    CONSTRAINT open_request_is_due CHECK ((refused_at IS NULL) = (due_at IS NOT NULL)),
    CONSTRAINT refused_request_has_errors CHECK ((refused_at IS NULL) = (errors IS NULL))
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX door_requests_due ON harkara.door_requests (tenant_id, due_at, request_id) WHERE due_at IS NOT NULL;
CREATE INDEX door_requests_by_recipient ON harkara.door_requests (tenant_id, recipient_id);

CALL harkara.guard_table('harkara.door_roles');
CALL harkara.guard_table('harkara.door_requests');
CREATE POLICY owner_keeps_doors ON harkara.door_roles TO harkara_owner USING (true) WITH CHECK (true);
CREATE POLICY door_stores ON harkara.door_requests TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY door_looks_up ON harkara.categories FOR SELECT TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CALL harkara.admit_worker('harkara.door_requests', 'SELECT', 'UPDATE', 'DELETE');
CALL harkara.audit_table('harkara.door_roles', 'role_name');
CALL harkara.audit_table('harkara.door_requests', 'request_id', 'request,errors');

-- The tenant whose door this session may use. It is the role that logged in that counts: SET ROLE and functions with their
-- owner's rights change current_user and never session_user, and no caller names a tenant.
CREATE FUNCTION harkara.door_tenant() RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog
AS $$
DECLARE
    own_tenant uuid;
BEGIN
    SELECT d.tenant_id INTO own_tenant FROM harkara.door_roles d WHERE d.role_name = session_user;
    IF own_tenant IS NULL THEN
        RAISE EXCEPTION 'role % has no door to Harkara', quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege', HINT = 'An administrator opens one: CALL harkara.open_door(role, tenant)';
    END IF;
    RETURN own_tenant;
END
$$;

-- What can be told of a request at once: its shape, and that its category and its recipient are there. The dispatcher
-- checks the rest, with the rules of POST /v1/notifications. Each mistake is named by its field: SQLSTATE 22023.
CREATE FUNCTION harkara.check_door_request(p_tenant uuid, p_request jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    wrong text;
    -- A test compares this list with what POST /v1/notifications takes.
    fields CONSTANT text[] := '{category,recipient,data,channels,template,subject,html,text,attachments,calendar,send_at,
        expires_at,batch,debounce,dedupe,priority,sandbox,metadata}';
BEGIN
    wrong := CASE
        WHEN p_request IS NULL OR jsonb_typeof(p_request) <> 'object' THEN 'the request must be a JSON object'
        WHEN octet_length(p_request::text) > 262144 THEN 'the request must have at most 256 KiB'
        WHEN p_request ? 'recipients' THEN '/recipients is not taken here; call the function once for each recipient'
        WHEN jsonb_typeof(p_request -> 'category') IS DISTINCT FROM 'string' THEN '/category is required and must be a string'
        WHEN jsonb_typeof(p_request -> 'recipient') IS DISTINCT FROM 'object' THEN '/recipient is required and must be an object'
        WHEN p_request -> 'recipient' ? 'id' AND jsonb_typeof(p_request #> '{recipient,id}') <> 'string'
            THEN '/recipient/id must be a string'
        WHEN NOT p_request -> 'recipient' ?| '{id,email,phone}'
            THEN '/recipient must have an id of a known recipient, or an email or phone'
        WHEN p_request ? 'send_at' AND (jsonb_typeof(p_request -> 'send_at') <> 'string'
                OR p_request ->> 'send_at' !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$')
            THEN '/send_at must be a time as RFC 3339 has it'
    END;
    IF wrong IS NULL THEN
        SELECT format('/%s is not a field of a notification', min(field)) INTO wrong
        FROM jsonb_object_keys(p_request) field WHERE field <> ALL (fields)
        HAVING count(*) > 0;
    END IF;
    IF wrong IS NULL AND NOT EXISTS (
        SELECT FROM harkara.categories c WHERE c.tenant_id = p_tenant AND c.category_key = p_request ->> 'category')
    THEN
        wrong := '/category is none of this tenant''s';
    END IF;
    IF wrong IS NULL AND p_request -> 'recipient' ? 'id' THEN
        -- Whoever erases the recipient waits until this is stored or undone, and then finds it.
        PERFORM FROM harkara.recipients r
        WHERE r.tenant_id = p_tenant AND r.recipient_id = p_request #>> '{recipient,id}' AND r.erased_at IS NULL
        FOR KEY SHARE;
        IF NOT FOUND THEN
            wrong := '/recipient/id is none of this tenant''s recipients';
        END IF;
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'harkara.enqueue: %', wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- Asks for one notification, as the body of POST /v1/notifications does for one recipient, within the caller's
-- transaction: both happen or neither. Returns the notification's id; the dispatcher makes it within a minute.
-- The same key gives the same id and asks once; it is kept until a day after the notification is to be sent.
-- SECURITY DEFINER, because its callers may read and write nothing. Anybody may write the settings that harkara.set_tenant
-- writes; here they are written anew before they are read.
CREATE FUNCTION harkara.enqueue(request jsonb, idempotency_key text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant  CONSTANT uuid := harkara.door_tenant();
    asked   CONSTANT jsonb := $1;
    own_key CONSTANT text := $2;
    hash    CONSTANT bytea := sha256(convert_to(coalesce($1::text, ''), 'UTF8'));
    way     CONSTANT text := 'sql harkara.enqueue';
    new_id  CONSTANT uuid := harkara.new_id();
    earlier record;
BEGIN
    PERFORM harkara.set_tenant(tenant);
    IF own_key IS NOT NULL THEN
        IF octet_length(own_key) NOT BETWEEN 1 AND 255 THEN
            RAISE EXCEPTION 'harkara.enqueue: idempotency_key must have 1 to 255 bytes'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        -- A second transaction with the key waits here for the first, then finds its id.
        INSERT INTO harkara.idempotency_keys AS k
            (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
        VALUES (tenant, way, own_key, hash, new_id::text, to_jsonb(new_id), harkara.now() + interval '24 hours')
        ON CONFLICT (tenant_id, route, idempotency_key) DO UPDATE
            SET request_hash = excluded.request_hash, request_id = excluded.request_id, answer = excluded.answer,
                created_at = harkara.now(), expires_at = excluded.expires_at
            WHERE k.expires_at <= harkara.now();
        IF NOT FOUND THEN
            SELECT k.request_hash, k.answer INTO earlier FROM harkara.idempotency_keys k
            WHERE k.tenant_id = tenant AND k.route = way AND k.idempotency_key = own_key;
            IF earlier.request_hash <> hash THEN
                RAISE EXCEPTION 'harkara.enqueue: idempotency_key was used for another request'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            RETURN (earlier.answer #>> '{}')::uuid;
        END IF;
    END IF;
    PERFORM harkara.check_door_request(tenant, asked);
    IF own_key IS NOT NULL AND asked ? 'send_at' THEN
        BEGIN
            UPDATE harkara.idempotency_keys k
            SET expires_at = greatest(k.expires_at, (asked ->> 'send_at')::timestamptz + interval '24 hours')
            WHERE k.tenant_id = tenant AND k.route = way AND k.idempotency_key = own_key;
        EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
            RAISE EXCEPTION 'harkara.enqueue: /send_at must be a time as RFC 3339 has it'
                USING ERRCODE = 'invalid_parameter_value';
        END;
    END IF;
    INSERT INTO harkara.door_requests (tenant_id, request_id, recipient_id, request)
    VALUES (tenant, new_id, asked #>> '{recipient,id}', asked);
    RETURN new_id;
END
$$;

-- Withdraws what harkara.enqueue asked for, or any other notification of the tenant, within the caller's transaction.
-- 'canceled': nothing of it will be sent. 'too_late': it was sent, is being sent, or has ended otherwise.
-- 'refused': it never became a notification. 'not_found': there is nothing of that id.
CREATE FUNCTION harkara.cancel(id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT uuid := harkara.door_tenant();
    asked  CONSTANT uuid := $1;
    became text;
BEGIN
    PERFORM harkara.set_tenant(tenant);
    -- A dispatcher that is taking it holds the row: this waits for it, and then finds the notification below.
    DELETE FROM harkara.door_requests d
    WHERE d.tenant_id = tenant AND d.request_id = asked AND d.refused_at IS NULL;
    IF FOUND THEN
        RETURN 'canceled';
    END IF;
    -- As store::notifications::cancel_notification does for POST /v1/notifications/{id}/cancel.
    WITH canceled AS (
        UPDATE harkara.deliveries d
        SET state = 'canceled', reason = 'canceled_by_caller', reason_detail = NULL, due_at = NULL,
            finished_at = harkara.now(), updated_at = harkara.now()
        WHERE d.tenant_id = tenant AND d.notification_id = asked AND d.state IN ('scheduled', 'queued', 'held')
        RETURNING d AS whole, d.notification_id, d.state, d.reason, gen_random_uuid() AS event_id
    )
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT tenant, c.event_id, c.notification_id, 'delivery.canceled',
           harkara.describe_delivery(c.event_id, c.whole, c.state, c.reason)
    FROM canceled c;
    SELECT CASE WHEN bool_and(d.state = 'canceled') THEN 'canceled' ELSE 'too_late' END INTO became
    FROM harkara.deliveries d WHERE d.tenant_id = tenant AND d.notification_id = asked
    HAVING count(*) > 0;
    RETURN coalesce(became, (
        SELECT 'refused' FROM harkara.door_requests d WHERE d.tenant_id = tenant AND d.request_id = asked), 'not_found');
END
$$;

-- Like harkara.cancel(uuid), by the key that harkara.enqueue was given; an id that comes as text is one, too.
CREATE FUNCTION harkara.cancel(idempotency_key text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT uuid := harkara.door_tenant();
    asked  CONSTANT text := $1;
    found_id uuid;
BEGIN
    PERFORM harkara.set_tenant(tenant);
    SELECT (k.answer #>> '{}')::uuid INTO found_id FROM harkara.idempotency_keys k
    WHERE k.tenant_id = tenant AND k.route = 'sql harkara.enqueue' AND k.idempotency_key = asked;
    IF NOT FOUND AND asked ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        found_id := asked::uuid;
    END IF;
    RETURN CASE WHEN found_id IS NULL THEN 'not_found' ELSE harkara.cancel(found_id) END;
END
$$;

-- Lets a login role through the door of one tenant. It runs as the administrator who calls it.
CREATE PROCEDURE harkara.open_door(role_name text, tenant uuid)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1) THEN
        RAISE EXCEPTION 'there is no role %', $1 USING ERRCODE = 'undefined_object';
    END IF;
    IF $1 LIKE 'harkara\_%' THEN
        RAISE EXCEPTION 'role % is one of Harkara''s own', $1 USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two administrators at once would not see each other's row.
    LOCK TABLE harkara.door_roles IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM harkara.door_roles d WHERE d.role_name = $1 AND d.tenant_id <> $2) THEN
        RAISE EXCEPTION 'role % has the door of another tenant', $1
            USING ERRCODE = 'invalid_parameter_value', HINT = 'CALL harkara.close_door(role) first';
    END IF;
    INSERT INTO harkara.door_roles (tenant_id, role_name) VALUES ($2, $1) ON CONFLICT (tenant_id, role_name) DO NOTHING;
    IF NOT EXISTS (
        SELECT FROM pg_auth_members m
        WHERE m.member = (SELECT r.oid FROM pg_roles r WHERE r.rolname = $1) AND m.roleid = 'harkara_domain'::regrole)
    THEN
        EXECUTE format('GRANT harkara_domain TO %I', $1);
    END IF;
END
$$;

-- Shuts a role out. What it has asked for stays. Roles are the cluster's, so its membership stays, too, and is good for
-- nothing here any more.
CREATE PROCEDURE harkara.close_door(role_name text)
LANGUAGE sql
SET search_path = pg_catalog
AS $$
    DELETE FROM harkara.door_roles d WHERE d.role_name = $1
$$;

-- Deletes what came through the door about a recipient who is being erased. What a dispatcher holds at this moment is
-- passed over: it waits for the recipient, finds it erased, and keeps nothing of the request.
CREATE FUNCTION harkara.erase_recipient_door(p_tenant uuid, p_recipient text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    DELETE FROM harkara.door_requests d
    WHERE d.tenant_id = p_tenant AND d.request_id IN (
        SELECT o.request_id FROM harkara.door_requests o
        WHERE o.tenant_id = p_tenant AND o.recipient_id = p_recipient
        FOR UPDATE SKIP LOCKED);
END
$$;

-- Erasing does what it did, and this, whatever else has been added to it.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.erase_recipient'::regproc);
    changed    CONSTANT text := replace(definition, E'    UPDATE harkara.recipients r\n',
        E'    PERFORM harkara.erase_recipient_door(tenant, p_recipient);\n    UPDATE harkara.recipients r\n');
BEGIN
    IF changed = definition THEN
        RAISE EXCEPTION 'harkara.erase_recipient is not as it was';
    END IF;
    EXECUTE changed;
END
$$;

-- What comes through the door brings files, and counts against the tenant's quota.
CALL harkara.admit_worker('harkara.attachments', 'INSERT');
CALL harkara.admit_worker('harkara.tenant_limits', 'SELECT');
CALL harkara.admit_worker('harkara.daily_counts', 'SELECT', 'INSERT', 'UPDATE');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.enqueue, harkara.cancel(uuid), harkara.cancel(text) TO harkara_domain;
GRANT EXECUTE ON FUNCTION harkara.keep_attachments, harkara.count_accepted TO harkara_worker;

RESET ROLE;
