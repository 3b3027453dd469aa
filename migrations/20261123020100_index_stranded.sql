-- The auditor reads what is open and has no next step and no end.
-- Safe beside running code: nothing but indexes is new, which stay empty. Writers of each table wait while it is read once,
-- a few seconds for some million rows; claims give up meanwhile, and their messages come back.
SET LOCAL ROLE harkara_owner;

-- What should not be there: in a sound database they are empty, and so cost nothing to keep.
CREATE INDEX collections_stranded ON harkara.collections (tenant_id) WHERE closed_at IS NULL AND due_at IS NULL;
CREATE INDEX deadlines_stranded ON harkara.deadlines (tenant_id)
WHERE overdue ? 'escalation_policy' AND completed_at IS NULL
  AND escalates_at IS NULL AND escalation_id IS NULL AND escalation_note IS NULL;
CREATE INDEX deliveries_stranded ON harkara.deliveries (tenant_id)
WHERE state IN ('scheduled', 'queued', 'sending', 'held', 'unknown') AND due_at IS NULL;
CREATE INDEX door_requests_stranded ON harkara.door_requests (tenant_id) WHERE refused_at IS NULL AND due_at IS NULL;
CREATE INDEX escalations_stranded ON harkara.escalations (tenant_id) WHERE state = 'open' AND next_step_at IS NULL;
CREATE INDEX rungs_stranded ON harkara.rungs (tenant_id) WHERE state = 'planned' AND look_at IS NULL;

-- An id as the API prints it.
CREATE FUNCTION harkara.print_id(p_prefix text, p_id uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_prefix || '_' || replace(p_id::text, '-', '');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.print_id TO harkara_worker;

RESET ROLE;
