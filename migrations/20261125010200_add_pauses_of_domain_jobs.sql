-- A domain's job may be paused: it stays as it is, and its schedule leads to no run.
-- Safe beside running code: that leaves the column as it is. A paused job has no next time, so that no runner of any release
-- takes it; one of the release before gives it one again at the end of a run that is asked for, and where the job is put.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.domain_jobs ADD COLUMN is_enabled boolean NOT NULL DEFAULT true;

RESET ROLE;
