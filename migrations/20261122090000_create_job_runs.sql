-- What the scheduled functions did, and the guard that lets one run of a job be at work at a time.
-- Safe beside running code: nothing existing is changed, and a function of the release before runs without a row here.
SET LOCAL ROLE harkara_owner;

-- One execution of a job. The jobs of the deployment itself are the operator's.
-- It is a log already, and holds nothing of anybody's: it has no second copy in the audit log.
CREATE TABLE harkara.job_runs (
    tenant_id        uuid        NOT NULL REFERENCES harkara.tenants,
    -- Of a run that was asked for, the id of the event that asked: the same event again is the same run.
    run_id           uuid        NOT NULL,
    job              text        NOT NULL,
    cause            text        NOT NULL,
    -- The subject of the token that asked for it.
    requested_by     text,
    started_at       timestamptz NOT NULL,
    -- When the function's time is up. A run that has not ended by then has died: Lambda lets nothing go on.
    lease_ends_at    timestamptz NOT NULL,
    finished_at      timestamptz,
    outcome          text,
    -- A code of ours, never the words of a driver.
    error_code       text,
    -- As the flow printed them; of a run that succeeded.
    counts           jsonb,
    -- Whether it stopped at its deadline with work left, which the next run does.
    leaves_work      boolean,
    -- Failures in a row: before this run while it is at work, with it once it has ended.
    failure_count    integer     NOT NULL DEFAULT 0,
    -- When the first run of that row of failures began.
    failing_since_at timestamptz,
    -- Whether people were told of that row of failures when this run failed.
    is_alerted       boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT cause_is_known CHECK (cause IN ('schedule', 'request')),
    CONSTRAINT only_requests_have_somebody_who_asked CHECK (requested_by IS NULL OR cause = 'request'),
    CONSTRAINT run_outcome_is_known CHECK (outcome IN ('succeeded', 'failed', 'died')),
    CONSTRAINT finished_run_has_an_outcome CHECK ((finished_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT failed_run_has_an_error CHECK ((outcome IS NOT DISTINCT FROM 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT succeeded_run_has_counts CHECK ((outcome IS NOT DISTINCT FROM 'succeeded') = (counts IS NOT NULL)
                                               AND (counts IS NULL) = (leaves_work IS NULL)),
    CONSTRAINT row_of_failures_has_a_beginning CHECK ((failure_count > 0) = (failing_since_at IS NOT NULL)),
    CONSTRAINT only_failures_are_alerted CHECK (NOT is_alerted OR failure_count > 0)
);

CREATE INDEX job_runs_by_time ON harkara.job_runs (tenant_id, job, started_at, run_id);
-- The guard, whatever the code does: at most one run of a job is open.
CREATE UNIQUE INDEX one_run_at_a_time ON harkara.job_runs (tenant_id, job) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX one_alert_for_a_row_of_failures ON harkara.job_runs (tenant_id, job, failing_since_at) WHERE is_alerted;

CALL harkara.guard_table('harkara.job_runs');
CALL harkara.admit_worker('harkara.job_runs', 'SELECT', 'INSERT', 'UPDATE');
CREATE POLICY owner_shows_runs ON harkara.job_runs FOR SELECT TO harkara_owner
USING (tenant_id IN ('00000000-0000-0000-0000-000000000000', (SELECT harkara.current_tenant())));

-- Whoever begins or ends a run of the job waits here for the other; for a few statements, never for work.
CREATE FUNCTION harkara.lock_job(p_tenant uuid, p_job text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog
AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('harkara.job ' || p_tenant || ' ' || p_job, 0))
$$;

-- Ends an open run and tells of a failed one by an event. Answers with how many failures in a row that makes and whether
-- people were told of them; with no row where the run is not open any more, because it was found dead.
CREATE FUNCTION harkara.end_job_run(
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
        outcome = p_outcome, error_code = p_error_code, counts = p_counts, leaves_work = p_leaves_work,
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

-- Begins a run unless another one holds the lease; one whose lease is over is marked as dead first. Answers with one row:
-- 'started', 'overlapped' or 'repeated' (the event that asks has had its run); and, where a run was found dead, which one
-- and what end_job_run says of it.
-- The time is read behind the lock: a run that waited for another one's end begins after it.
CREATE FUNCTION harkara.begin_job_run(
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

-- Notes that people are being told of a row of failures, and says so by an event. Answers with the row's length, since when
-- it lasts and the last error's code; with no row where somebody else has told them.
CREATE FUNCTION harkara.note_job_alert(p_tenant uuid, p_job text, p_run uuid)
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
    INSERT INTO harkara.events (tenant_id, event_id, detail_type, detail)
    VALUES (p_tenant, v_event, 'job.failing', jsonb_build_object(
        'event_id', 'evt_' || replace(v_event::text, '-', ''), 'tenant_id', p_tenant,
        'run_id', 'run_' || replace(p_run::text, '-', ''), 'job', p_job, 'error', v_run.error_code,
        'failure_count', v_run.failure_count));
    RETURN QUERY SELECT v_run.failure_count, v_run.failing_since_at, v_run.error_code;
END
$$;

-- The newest runs of each of a tenant's jobs, from a run on. The operator's are the state of the deployment, which every
-- tenant may know; who asked for a run only its own tenant is shown. SECURITY DEFINER because the wall shows a tenant no run
-- of the operator's; the owner's policies show the operator's runs and those of the tenant that is set.
-- A run whose lease is over has died, whether somebody has marked it or not.
CREATE FUNCTION harkara.read_job_runs(
    p_tenant uuid, p_jobs text[], p_after_at timestamptz, p_after_id uuid, p_limit bigint
) RETURNS TABLE (
    job text, run_id uuid, cause text, requested_by text, started_at timestamptz, finished_at timestamptz, outcome text,
    error_code text, counts jsonb, leaves_work boolean, failure_count integer)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT asked.job, r.run_id, r.cause,
           CASE WHEN r.tenant_id = harkara.current_tenant() THEN r.requested_by END,
           r.started_at,
           CASE WHEN found.is_dead THEN r.lease_ends_at ELSE r.finished_at END,
           CASE WHEN found.is_dead THEN 'died' ELSE r.outcome END,
           r.error_code, r.counts, r.leaves_work,
           CASE WHEN found.is_dead THEN r.failure_count + 1 ELSE r.failure_count END
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
GRANT EXECUTE ON FUNCTION harkara.lock_job, harkara.begin_job_run, harkara.end_job_run, harkara.note_job_alert TO harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.read_job_runs TO harkara_api;

RESET ROLE;
