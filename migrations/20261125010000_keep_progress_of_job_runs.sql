-- What a run has done so far stands in its row while it is at work, and stays there should it fail or die.
-- Safe beside running code: what that writes fits the new constraints, which are weaker, and it names the columns that it
-- reads of read_job_runs. Checking them takes one look at each run, for which runs that begin or end wait.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.job_runs
    -- When the run has last said what it has done. NULL of runs that ended before this was kept: those said it at their end.
    ADD COLUMN counted_at timestamptz,
    DROP CONSTRAINT succeeded_run_has_counts,
    ADD CONSTRAINT succeeded_run_has_counts CHECK (outcome IS DISTINCT FROM 'succeeded' OR counts IS NOT NULL),
    ADD CONSTRAINT only_succeeded_run_says_what_it_leaves CHECK (
        (outcome IS NOT DISTINCT FROM 'succeeded') = (leaves_work IS NOT NULL)),
    ADD CONSTRAINT only_counts_have_their_time CHECK (counted_at IS NULL OR counts IS NOT NULL);

-- As before, and a run that ends without counts keeps those that it had.
CREATE OR REPLACE FUNCTION harkara.end_job_run(
    p_tenant uuid, p_job text, p_run uuid, p_outcome text, p_error_code text, p_counts jsonb, p_leaves_work boolean
) RETURNS TABLE (failure_count integer, is_alerted boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    v_run   harkara.job_runs;
    v_event uuid;
BEGIN
    PERFORM harkara.lock_job(p_tenant, p_job);
    UPDATE harkara.job_runs r
    SET finished_at = CASE WHEN p_outcome = 'died' THEN r.lease_ends_at ELSE harkara.clock() END,
        outcome = p_outcome, error_code = p_error_code, leaves_work = p_leaves_work,
        counts = coalesce(p_counts, r.counts),
        counted_at = CASE WHEN p_counts IS NULL THEN r.counted_at ELSE harkara.clock() END,
        failure_count = CASE WHEN p_outcome = 'succeeded' THEN 0 ELSE r.failure_count + 1 END,
        failing_since_at = CASE WHEN p_outcome <> 'succeeded' THEN coalesce(r.failing_since_at, r.started_at) END
    WHERE r.tenant_id = p_tenant AND r.job = p_job AND r.run_id = p_run AND r.finished_at IS NULL
    RETURNING * INTO v_run;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    IF p_outcome <> 'succeeded' THEN
        v_event := harkara.new_id();
        INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
        VALUES (p_tenant, v_event, 'job_run.failed', jsonb_build_object(
            'event_id', 'evt_' || replace(v_event::text, '-', ''), 'tenant_id', p_tenant,
            'run_id', 'run_' || replace(p_run::text, '-', ''), 'job', p_job, 'outcome', p_outcome,
            'error', p_error_code, 'failure_count', v_run.failure_count));
    END IF;
    RETURN QUERY SELECT v_run.failure_count, EXISTS (
        SELECT FROM harkara.job_runs r
        WHERE r.tenant_id = p_tenant AND r.job = p_job AND r.failing_since_at = v_run.failing_since_at AND r.is_alerted);
END
$$;

-- As before, and when the counts are of, and when the last run that the schedule began did so, up to this one: what somebody
-- asks for moves no schedule. Its columns cannot be replaced.
DROP FUNCTION harkara.read_job_runs;
CREATE FUNCTION harkara.read_job_runs(
    p_tenant uuid, p_jobs text[], p_after_at timestamptz, p_after_id uuid, p_limit bigint
) RETURNS TABLE (
    job text, run_id uuid, cause text, requested_by text, started_at timestamptz, finished_at timestamptz, outcome text,
    error_code text, counts jsonb, counted_at timestamptz, leaves_work boolean, failure_count integer,
    scheduled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT asked.job, r.run_id, r.cause,
           CASE WHEN r.tenant_id = harkara.current_tenant() THEN r.requested_by END,
           r.started_at,
           CASE WHEN found.is_dead THEN r.lease_ends_at ELSE r.finished_at END,
           CASE WHEN found.is_dead THEN 'died' ELSE r.outcome END,
           r.error_code, r.counts,
           CASE WHEN r.counts IS NOT NULL THEN coalesce(r.counted_at, r.finished_at) END,
           r.leaves_work,
           CASE WHEN found.is_dead THEN r.failure_count + 1 ELSE r.failure_count END,
           (SELECT s.started_at FROM harkara.job_runs s
            WHERE s.tenant_id = p_tenant AND s.job = asked.job AND s.cause = 'schedule' AND s.started_at <= r.started_at
            ORDER BY s.started_at DESC LIMIT 1)
    FROM unnest(p_jobs) asked(job)
    CROSS JOIN LATERAL (
        SELECT * FROM harkara.job_runs r
        WHERE r.tenant_id = p_tenant AND r.job = asked.job
          AND p_tenant IN ('00000000-0000-0000-0000-000000000000', harkara.current_tenant())
          AND (p_after_at IS NULL OR (r.started_at, r.run_id) < (p_after_at, p_after_id))
        ORDER BY r.started_at DESC, r.run_id DESC
        LIMIT p_limit
    ) r
    CROSS JOIN LATERAL (SELECT r.finished_at IS NULL AND r.lease_ends_at <= harkara.now() AS is_dead) found
    ORDER BY asked.job, r.started_at DESC, r.run_id DESC
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.read_job_runs TO harkara_api;

RESET ROLE;
