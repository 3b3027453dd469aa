-- A tick of the schedule that finds a run at work is kept in that run's row: the schedule is in time, although the tick began
-- nothing.
-- Safe beside running code: the column is new and empty, and both functions take and answer what they did.
SET LOCAL ROLE harkara_owner;

-- When the schedule last found this run at work, whoever had asked for it. NULL where it never has.
ALTER TABLE harkara.job_runs ADD COLUMN ticked_at timestamptz;

-- As before, and a tick of the schedule that another run overlaps is kept with that.
CREATE OR REPLACE FUNCTION harkara.begin_job_run(
    p_tenant uuid, p_job text, p_run uuid, p_cause text, p_requested_by text, p_lease_millis bigint
) RETURNS TABLE (answer text, dead_run_id uuid, failure_count integer, is_alerted boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    v_now  timestamptz;
    v_last harkara.job_runs;
BEGIN
    PERFORM harkara.lock_job(p_tenant, p_job);
    v_now := harkara.clock();
    IF EXISTS (SELECT FROM harkara.job_runs r WHERE r.tenant_id = p_tenant AND r.run_id = p_run) THEN
        answer := 'repeated';
        RETURN NEXT;
        RETURN;
    END IF;

    -- The one that is open first: where the clock has gone back since, it is not the one that began last.
    SELECT * INTO v_last FROM harkara.job_runs r
    WHERE r.tenant_id = p_tenant AND r.job = p_job AND r.finished_at IS NULL;
    IF NOT FOUND THEN
        SELECT * INTO v_last FROM harkara.job_runs r
        WHERE r.tenant_id = p_tenant AND r.job = p_job
        ORDER BY r.started_at DESC, r.run_id DESC
        LIMIT 1;
    ELSE
        IF v_last.lease_ends_at > v_now THEN
            IF p_cause = 'schedule' THEN
                UPDATE harkara.job_runs r SET ticked_at = v_now
                WHERE r.tenant_id = p_tenant AND r.run_id = v_last.run_id;
            END IF;
            answer := 'overlapped';
            RETURN NEXT;
            RETURN;
        END IF;
        dead_run_id := v_last.run_id;
        SELECT e.failure_count, e.is_alerted INTO begin_job_run.failure_count, begin_job_run.is_alerted
        FROM harkara.end_job_run(p_tenant, p_job, v_last.run_id, 'died', NULL, NULL, NULL) e;
        v_last.failing_since_at := coalesce(v_last.failing_since_at, v_last.started_at);
        v_last.failure_count := v_last.failure_count + 1;
    END IF;

    INSERT INTO harkara.job_runs
        (tenant_id, run_id, job, cause, requested_by, started_at, lease_ends_at, failure_count, failing_since_at)
    VALUES (p_tenant, p_run, p_job, p_cause, p_requested_by, v_now, v_now + make_interval(secs => p_lease_millis / 1000.0),
            coalesce(v_last.failure_count, 0), v_last.failing_since_at);
    answer := 'started';
    RETURN NEXT;
END
$$;

-- As before, and the schedule's last time up to a run is when it began one or found one at work: runs of a job lie one behind
-- the other, so that the newest which it touched has both.
CREATE OR REPLACE FUNCTION harkara.read_job_runs(
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
           (SELECT greatest(s.ticked_at, CASE WHEN s.cause = 'schedule' THEN s.started_at END)
            FROM harkara.job_runs s
            WHERE s.tenant_id = p_tenant AND s.job = asked.job AND (s.cause = 'schedule' OR s.ticked_at IS NOT NULL)
              AND s.started_at <= r.started_at
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

RESET ROLE;
