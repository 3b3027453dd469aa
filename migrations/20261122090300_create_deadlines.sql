-- Deadlines and the reminders before and after them.
-- Safe beside running code: tables are new, and what is replaced does as before beside what it does for them.
SET LOCAL ROLE harkara_owner;

-- Something that is due, as the caller put it.
CREATE TABLE harkara.deadlines (
    tenant_id    uuid        NOT NULL REFERENCES harkara.tenants,
    deadline_key text        NOT NULL,
    -- The category of rungs that name none.
    category_key text,
    recipients   text[]      NOT NULL,
    -- For recipients that have no zone of their own.
    time_zone    text,
    due_at       timestamptz NOT NULL,
    -- The reminders, as adapters::wire::deadlines prints them; each has its row below for each recipient.
    rungs        jsonb       NOT NULL,
    -- What happens when it has passed; NULL is nothing.
    overdue      jsonb,
    data         jsonb       NOT NULL DEFAULT '{}',
    when_past    text        NOT NULL,
    completed_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT harkara.now(),
    updated_at   timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, deadline_key),
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories,
    CONSTRAINT when_past_is_known CHECK (when_past IN ('skip', 'send'))
);

CREATE INDEX deadlines_by_category ON harkara.deadlines (tenant_id, category_key, deadline_key);

-- What a deadline does for one recipient at one time. The due time is in the key: what has fired for one due time never
-- fires again for it, wherever the deadline is moved meanwhile.
CREATE TABLE harkara.rungs (
    tenant_id       uuid        NOT NULL,
    deadline_key    text        NOT NULL,
    recipient_id    text        NOT NULL,
    -- As domain::deadline prints it: -P7D@09:00, +PT2H, overdue.
    rung_key        text        NOT NULL,
    due_at          timestamptz NOT NULL,
    state           text        NOT NULL,
    -- Why it became no notification: a code of domain::deadline, and words for people.
    note            text,
    note_detail     text,
    -- When it fires in the zone that the recipient had when it was planned.
    fire_at         timestamptz NOT NULL,
    -- When the reminder has to look at it: then, or at once where the zone has changed since.
    look_at         timestamptz,
    -- What it became. Retention may have deleted it.
    notification_id uuid,
    decided_at      timestamptz,
    PRIMARY KEY (tenant_id, deadline_key, recipient_id, rung_key, due_at),
    FOREIGN KEY (tenant_id, deadline_key) REFERENCES harkara.deadlines,
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    CONSTRAINT rung_state_is_known CHECK (state IN ('planned', 'fired', 'skipped', 'canceled', 'failed')),
    CONSTRAINT rung_note_is_known CHECK (note IN (
        'past', 'fired_before', 'after_due', 'missed', 'overtaken', 'completed', 'recipient_erased', 'unknown_category',
        'unknown_recipient', 'unknown_template', 'no_content', 'wrong_data', 'no_address', 'unreadable')),
    CONSTRAINT planned_rung_is_looked_at CHECK ((state = 'planned') = (look_at IS NOT NULL)),
    CONSTRAINT planned_rung_is_not_decided CHECK ((state = 'planned') = (decided_at IS NULL)),
    CONSTRAINT fired_rung_has_a_notification CHECK ((state = 'fired') = (notification_id IS NOT NULL)),
    CONSTRAINT unsuccessful_rung_has_a_note CHECK ((state IN ('skipped', 'canceled', 'failed')) = (note IS NOT NULL))
)
-- Each is written once more when it is decided, many at once.
WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);

-- All of the reminder's work, and only that.
CREATE INDEX rungs_due ON harkara.rungs (tenant_id, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX rungs_by_recipient ON harkara.rungs (tenant_id, recipient_id, deadline_key);

-- A recipient that moves to another zone gets what is planned for it at other times: the reminder looks at it in its next
-- run, and plans it anew where it is not due yet.
CREATE FUNCTION harkara.look_at_rungs_of_recipients() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE harkara.rungs r SET look_at = harkara.now()
    FROM new_rows n
    JOIN old_rows o ON o.tenant_id = n.tenant_id AND o.recipient_id = n.recipient_id
    WHERE n.time_zone IS DISTINCT FROM o.time_zone
      AND r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id AND r.state = 'planned';
    RETURN NULL;
END
$$;

CREATE TRIGGER rungs_follow_the_zone AFTER UPDATE ON harkara.recipients
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION harkara.look_at_rungs_of_recipients();

-- The same for those who have none of their own, when the tenant's changes.
CREATE FUNCTION harkara.look_at_rungs_of_tenant() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE harkara.rungs r SET look_at = harkara.now()
    FROM harkara.recipients n
    WHERE r.tenant_id = NEW.tenant_id AND r.state = 'planned'
      AND n.tenant_id = r.tenant_id AND n.recipient_id = r.recipient_id AND n.time_zone IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER rungs_follow_the_zone AFTER UPDATE OF time_zone ON harkara.tenants
FOR EACH ROW WHEN (OLD.time_zone IS DISTINCT FROM NEW.time_zone) EXECUTE FUNCTION harkara.look_at_rungs_of_tenant();

-- Nobody is reminded any more who was erased, and what a deadline says of nobody else goes, too. What was decided stays
-- with the id, like notifications. The order of locks is that of everybody: recipients, deadlines, rungs.
CREATE FUNCTION harkara.erase_recipient_reminder(p_recipient text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant CONSTANT uuid := harkara.current_tenant();
BEGIN
    PERFORM FROM harkara.deadlines d
    WHERE d.tenant_id = tenant AND d.deadline_key IN (
        SELECT r.deadline_key FROM harkara.rungs r WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient)
    ORDER BY d.deadline_key FOR UPDATE;
    UPDATE harkara.deadlines d
    SET recipients = array_remove(d.recipients, p_recipient),
        data = CASE WHEN d.recipients <@ ARRAY[p_recipient] THEN '{}' ELSE d.data END,
        rungs = CASE WHEN d.recipients <@ ARRAY[p_recipient]
                     THEN (SELECT coalesce(jsonb_agg(e.rung - 'data' ORDER BY e.place), '[]')
                           FROM jsonb_array_elements(d.rungs) WITH ORDINALITY AS e (rung, place))
                     ELSE d.rungs END,
        updated_at = harkara.now()
    WHERE d.tenant_id = tenant AND p_recipient = ANY (d.recipients) AND d.deadline_key IN (
        SELECT r.deadline_key FROM harkara.rungs r WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient);
    -- As wire::http names the route: its answers show the deadline.
    DELETE FROM harkara.idempotency_keys k
    WHERE k.tenant_id = tenant AND k.route IN (
        SELECT 'POST /v1/deadlines/{key}/complete ' || r.deadline_key FROM harkara.rungs r
        WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient);
    UPDATE harkara.rungs r
    SET state = 'canceled', note = 'recipient_erased', look_at = NULL, decided_at = harkara.now()
    WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient AND r.state = 'planned';
END
$$;

-- Whoever erases a recipient does that before anything else of it, right after it is locked.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.erase_recipient(text)'::regprocedure);
    locked     CONSTANT text := E'        RETURN false;\n    END IF;\n';
BEGIN
    IF position(locked IN definition) = 0 THEN
        RAISE EXCEPTION 'erase_recipient is not as it was';
    END IF;
    EXECUTE replace(definition, locked, locked || E'    PERFORM harkara.erase_recipient_reminder(p_recipient);\n');
END
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.deadlines, harkara.rungs}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
        EXECUTE format('CREATE POLICY owner_erases ON %s TO harkara_owner
                        USING (tenant_id = (SELECT harkara.current_tenant()))', guarded);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON harkara.deadlines TO harkara_api;
GRANT SELECT, INSERT, DELETE, UPDATE (state, note, look_at, decided_at) ON harkara.rungs TO harkara_api;

CALL harkara.admit_worker('harkara.deadlines', 'SELECT');
CALL harkara.admit_worker('harkara.rungs', 'SELECT', 'UPDATE');

CALL harkara.audit_table('harkara.deadlines', 'deadline_key', 'data,rungs');
-- When it is looked at is no fact about it, and changes for a whole tenant at once.
CALL harkara.audit_table('harkara.rungs', 'deadline_key,recipient_id,rung_key,due_at');
CALL harkara.audit_table_anew('harkara.rungs', 'deadline_key,recipient_id,rung_key,due_at', '', 'look_at');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
