-- One escalation for a deadline that has passed, where it says by which policy.
-- Safe beside running code: columns and what stands on them are new, and code that does not know them leaves them NULL.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.deadlines
    -- When the escalation begins; NULL where none does, or it has been decided about.
    ADD COLUMN escalates_at    timestamptz,
    -- What began for the present due time. Retention may have deleted it.
    ADD COLUMN escalation_id   uuid,
    -- Why none began: a code of domain::deadline.
    ADD COLUMN escalation_note text,
    ADD CONSTRAINT escalation_note_is_known CHECK (escalation_note IN ('unknown_policy', 'unreadable_policy', 'unreadable')),
    ADD CONSTRAINT escalation_begins_or_says_why_not CHECK (num_nonnulls(escalates_at, escalation_id, escalation_note) <= 1),
    ADD CONSTRAINT escalating_deadline_says_when_or_what_became CHECK (
        NOT overdue ? 'escalation_policy' OR completed_at IS NOT NULL
        OR num_nonnulls(escalates_at, escalation_id, escalation_note) = 1),
    ADD CONSTRAINT completed_deadline_does_not_escalate CHECK (completed_at IS NULL OR escalates_at IS NULL);

-- All of what is to begin, and only that.
CREATE INDEX deadlines_escalating ON harkara.deadlines (tenant_id, escalates_at) WHERE escalates_at IS NOT NULL;
-- Deadlines that may have no rungs, by which a recipient's are found otherwise.
CREATE INDEX deadlines_without_reminders ON harkara.deadlines (tenant_id, deadline_key) WHERE rungs = '[]';

GRANT UPDATE (escalates_at, escalation_id, escalation_note) ON harkara.deadlines TO harkara_worker;
CREATE POLICY worker_may_update ON harkara.deadlines FOR UPDATE TO harkara_worker USING (true) WITH CHECK (true);

-- What is to be forgotten of a recipient who is erased: as in erase_recipient_reminder, of deadlines without rungs. An
-- escalation that is just being started of a deadline is waited for here, and then is there for erase_recipient_escalations.
-- The order of locks is that of everybody: recipients, deadlines, escalations.
CREATE FUNCTION harkara.erase_recipient_overdue(p_recipient text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant CONSTANT uuid := harkara.current_tenant();
    keys   CONSTANT text[] := ARRAY(
        SELECT d.deadline_key FROM harkara.deadlines d
        WHERE d.tenant_id = tenant AND d.rungs = '[]' AND d.recipients @> ARRAY[p_recipient]
        UNION
        SELECT r.deadline_key FROM harkara.rungs r WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient);
BEGIN
    PERFORM FROM harkara.deadlines d
    WHERE d.tenant_id = tenant AND d.deadline_key = ANY (keys) ORDER BY d.deadline_key FOR UPDATE;
    -- As wire::http names the route: its answers show the deadline.
    DELETE FROM harkara.idempotency_keys k
    WHERE k.tenant_id = tenant AND k.route IN (
        SELECT 'POST /v1/deadlines/{key}/complete ' || d.deadline_key FROM harkara.deadlines d
        WHERE d.tenant_id = tenant AND d.deadline_key = ANY (keys));
    UPDATE harkara.deadlines d
    SET recipients = array_remove(d.recipients, p_recipient),
        data = CASE WHEN d.recipients <@ ARRAY[p_recipient] THEN '{}' ELSE d.data END,
        updated_at = harkara.now()
    WHERE d.tenant_id = tenant AND d.rungs = '[]' AND d.recipients @> ARRAY[p_recipient];
END
$$;

-- Before erase_recipient_reminder, which takes the recipient out of the deadlines with rungs.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.erase_recipient(text)'::regprocedure);
    locked     CONSTANT text := E'        RETURN false;\n    END IF;\n';
BEGIN
    IF position(locked IN definition) = 0 THEN
        RAISE EXCEPTION 'erase_recipient is not as it was';
    END IF;
    EXECUTE replace(definition, locked, locked || E'    PERFORM harkara.erase_recipient_overdue(p_recipient);\n');
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
