-- The dispatcher takes due work tenant by tenant, so that one tenant's backlog does not stand before another's minute.
-- Beside running code it is waited for: claims stop while the table is read once, a few seconds for some million rows, and
-- their messages come back. What asks for due work without a tenant reads the whole of this index, which holds open
-- deliveries only.
SET LOCAL ROLE harkara_owner;

DROP INDEX harkara.deliveries_due;

-- All of the dispatcher's work, and only that: history is not in it.
CREATE INDEX deliveries_due ON harkara.deliveries (tenant_id, due_at) WHERE due_at IS NOT NULL;

RESET ROLE;
