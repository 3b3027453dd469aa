-- What is put off because it cannot be dealt with keeps the time at which it was due.
-- Safe beside running code: the columns are new and empty, and code that does not know them does as before.
-- Writers of each table wait while it is read once for its index, a few seconds for some million rows.
SET LOCAL ROLE harkara_owner;

-- When it was due, where it was put off since: being put off hides no delay. What waits for a quota waits by somebody's will,
-- and has none.
ALTER TABLE harkara.collections ADD COLUMN was_due_at timestamptz;
ALTER TABLE harkara.door_requests ADD COLUMN was_due_at timestamptz;
ALTER TABLE harkara.escalations ADD COLUMN was_due_at timestamptz;

-- All that is put off, which is nothing where all is well.
CREATE INDEX collections_put_off ON harkara.collections (tenant_id, was_due_at)
WHERE due_at IS NOT NULL AND was_due_at IS NOT NULL;
CREATE INDEX door_requests_put_off ON harkara.door_requests (tenant_id, was_due_at)
WHERE due_at IS NOT NULL AND was_due_at IS NOT NULL;
CREATE INDEX escalations_put_off ON harkara.escalations (tenant_id, was_due_at)
WHERE next_step_at IS NOT NULL AND was_due_at IS NOT NULL;

RESET ROLE;
