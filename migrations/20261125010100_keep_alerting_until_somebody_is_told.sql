-- An alert that reached nobody is tried again at the next failure, and the event that goes with it is told once all the same.
-- Safe beside running code: it calls note_job_alert as before, and what it writes fits. A row of failures that it has told
-- nobody of stays told. Building the index takes one look at each run, for which runs that begin or end wait.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.job_runs
    -- Whether that row of failures was told by an event when this run failed.
    ADD COLUMN is_announced boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT only_failures_are_announced CHECK (NOT is_announced OR failure_count > 0);

CREATE UNIQUE INDEX one_announcement_of_a_row_of_failures ON harkara.job_runs (tenant_id, job, failing_since_at)
WHERE is_announced;

-- As before; and where people could not be told of the same row of failures before, its event is there already.
CREATE OR REPLACE FUNCTION harkara.note_job_alert(p_tenant uuid, p_job text, p_run uuid)
RETURNS TABLE (failure_count integer, failing_since_at timestamptz, error_code text)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    v_run   harkara.job_runs;
    v_event uuid := harkara.new_id();
BEGIN
    PERFORM harkara.lock_job(p_tenant, p_job);
    UPDATE harkara.job_runs r SET is_alerted = true
    WHERE r.tenant_id = p_tenant AND r.job = p_job AND r.run_id = p_run AND r.failure_count > 0 AND NOT EXISTS (
        SELECT FROM harkara.job_runs o
        WHERE o.tenant_id = p_tenant AND o.job = p_job AND o.failing_since_at = r.failing_since_at AND o.is_alerted)
    RETURNING * INTO v_run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE harkara.job_runs r SET is_announced = true
    WHERE r.tenant_id = p_tenant AND r.job = p_job AND r.run_id = p_run AND NOT EXISTS (
        SELECT FROM harkara.job_runs o
        WHERE o.tenant_id = p_tenant AND o.job = p_job AND o.failing_since_at = v_run.failing_since_at AND o.is_announced);
    IF FOUND THEN
        INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
        VALUES (p_tenant, v_event, 'job.failing', jsonb_build_object(
            'event_id', 'evt_' || replace(v_event::text, '-', ''), 'tenant_id', p_tenant,
            'run_id', 'run_' || replace(p_run::text, '-', ''), 'job', p_job, 'error', v_run.error_code,
            'failure_count', v_run.failure_count));
    END IF;
    RETURN QUERY SELECT v_run.failure_count, v_run.failing_since_at, v_run.error_code;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
