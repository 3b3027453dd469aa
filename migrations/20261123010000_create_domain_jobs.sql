-- Domain jobs: what a tenant's domain registers to be run on a schedule.
-- Safe beside running code: tables and functions are new; harkara.keep_retention does as before, and one thing more.
--
-- harkara_domain_job  whom a domain grants its views and functions: nobody logs in as it, and nobody is a member of it.
--                     Two functions with its rights are the only way to act as it, so that what they run can become
--                     nobody else: Postgres refuses SET ROLE within them.
DO $$
BEGIN
    CREATE ROLE harkara_domain_job NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Roles are the cluster's: another database of it was here before, or is at this moment.
    NULL;
END
$$;

DO $$
BEGIN
    -- A master user of RDS is no superuser: it may create for a role only as its member.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT harkara_domain_job TO %I', current_user);
    END IF;
END
$$;

SET LOCAL ROLE harkara_owner;

-- What a tenant has registered.
CREATE TABLE harkara.domain_jobs (
    tenant_id       uuid        NOT NULL REFERENCES harkara.tenants,
    job_key         text        NOT NULL,
    -- rate(…) or cron(…), as EventBridge writes them.
    schedule        text        NOT NULL,
    -- Whose clocks a cron follows; NULL is the tenant's.
    time_zone       text,
    timeout_seconds integer     NOT NULL,
    -- What it does, as wire::domain_jobs writes it: {"candidates": …} or {"call": …}.
    definition      jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT harkara.now(),
    updated_at      timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, job_key),
    CONSTRAINT timeout_is_bounded CHECK (timeout_seconds BETWEEN 1 AND 240)
);

-- When each is due. Every run moves it, so it is kept apart from what people wrote.
CREATE TABLE harkara.domain_job_clocks (
    tenant_id        uuid        NOT NULL,
    job_key          text        NOT NULL,
    -- Where its rate counts from: when its schedule was put.
    anchored_at      timestamptz NOT NULL DEFAULT harkara.now(),
    -- Its schedule's next time, in the past while a run is overdue; NULL where there is none any more.
    next_due_at      timestamptz,
    -- When somebody has to look at it: the next time, at once where a run was asked for, and the lease's end while a run is at
    -- work, so that one that dies is made up for.
    look_at          timestamptz,
    -- The run that is at work.
    run_id           uuid,
    -- The run that was asked for, and by whom.
    requested_run_id uuid,
    requested_by     text,
    PRIMARY KEY (tenant_id, job_key),
    FOREIGN KEY (tenant_id, job_key) REFERENCES harkara.domain_jobs,
    CONSTRAINT only_requested_runs_have_somebody_who_asked CHECK (requested_by IS NULL OR requested_run_id IS NOT NULL),
    CONSTRAINT what_is_at_work_is_looked_at CHECK (run_id IS NULL OR look_at IS NOT NULL)
);

CREATE INDEX domain_job_clocks_due ON harkara.domain_job_clocks (tenant_id, look_at) WHERE look_at IS NOT NULL;

-- Which candidates of a job have become notifications, each once. Of a key only its hash is kept: it is the domain's own
-- word. It outlives its job, so that one that is deleted and put again tells nobody twice.
CREATE TABLE harkara.domain_job_candidates (
    tenant_id uuid        NOT NULL REFERENCES harkara.tenants,
    job_key   text        NOT NULL,
    key_hash  bytea       NOT NULL,
    -- When the view had it last, to the day.
    seen_at   timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, job_key, key_hash)
);

CREATE INDEX domain_job_candidates_by_time ON harkara.domain_job_candidates (tenant_id, seen_at);

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.domain_jobs, harkara.domain_job_clocks, harkara.domain_job_candidates}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON harkara.domain_jobs, harkara.domain_job_clocks TO harkara_api;
CALL harkara.admit_worker('harkara.domain_jobs', 'SELECT');
CALL harkara.admit_worker('harkara.domain_job_clocks', 'SELECT', 'UPDATE');
CALL harkara.admit_worker('harkara.domain_job_candidates', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CREATE POLICY owner_keeps_retention ON harkara.domain_job_candidates TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.domain_jobs FOR SELECT TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
-- The clocks move with every run, which is a row of job_runs; the candidates' notifications are on record themselves.
CALL harkara.audit_table('harkara.domain_jobs', 'job_key');

-- Bounds the statements of the rest of the transaction. It is a function because RDS Proxy pins a session that sets this
-- itself and does not look into functions.
CREATE FUNCTION harkara.limit_statements(p_millis integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM set_config('statement_timeout', p_millis || 'ms', true);
END
$$;

-- Forgets candidates that no view has shown for so many days: their job is no more, or has run to its end a day and more
-- after it had them last, and so without them. A job that runs more seldom than that would tell of them again.
CREATE FUNCTION harkara.forget_candidates(p_tenant uuid, p_limit integer, p_days integer) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    forgotten integer;
BEGIN
    WITH jobs AS MATERIALIZED (
        SELECT j.job_key, coalesce((
            SELECT r.started_at FROM harkara.job_runs r
            WHERE r.tenant_id = p_tenant AND r.job = j.job_key AND r.outcome = 'succeeded' AND NOT r.leaves_work
            ORDER BY r.started_at DESC LIMIT 1), '-infinity') AS ran_at
        FROM harkara.domain_jobs j WHERE j.tenant_id = p_tenant
    )
    DELETE FROM harkara.domain_job_candidates c
    USING (
        SELECT o.job_key, o.key_hash FROM harkara.domain_job_candidates o
        LEFT JOIN jobs ON jobs.job_key = o.job_key
        WHERE o.tenant_id = p_tenant AND o.seen_at < harkara.now() - make_interval(days => p_days)
          AND coalesce(jobs.ran_at > o.seen_at + interval '1 day', true)
        ORDER BY o.seen_at LIMIT p_limit FOR UPDATE OF o SKIP LOCKED
    ) due
    WHERE c.tenant_id = p_tenant AND c.job_key = due.job_key AND c.key_hash = due.key_hash;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- Retention does what it did, and this, whatever else has been added to it.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.keep_retention'::regproc);
    ending     CONSTANT text := E'    RETURN jsonb_build_object(''notifications''';
BEGIN
    IF position(ending IN definition) = 0 THEN
        RAISE EXCEPTION 'harkara.keep_retention does not end as it did';
    END IF;
    EXECUTE replace(definition, ending,
        E'    counted := harkara.forget_candidates(p_tenant, most, v_days);\n'
        '    expired := expired + counted;\n'
        '    is_full := is_full OR counted >= most;\n\n' || ending);
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.limit_statements TO harkara_worker;
GRANT USAGE, CREATE ON SCHEMA harkara TO harkara_domain_job;
RESET ROLE;

SET LOCAL ROLE harkara_domain_job;

-- Up to so many of a tenant's rows of a view that the domain has granted: key text, recipient text, data jsonb. Whatever the
-- view shows of other tenants stays there. Data that is longer than it may be is left out, and said to be.
-- Its caller reads in a transaction that cannot write, so neither can what stands behind the view. Locks of the session,
-- which that transaction's end would not free, are freed here.
CREATE FUNCTION harkara.read_candidates(p_schema text, p_view text, p_tenant uuid, p_limit integer, p_most_bytes integer)
RETURNS TABLE (candidate_key text, recipient text, data jsonb, is_too_large boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT left(v.key::text, 256), left(v.recipient::text, 256), CASE WHEN v.is_small THEN v.data END, NOT v.is_small
         FROM (
             SELECT o.key, o.recipient, o.data::jsonb AS data, coalesce(octet_length(o.data::text) <= $3, true) AS is_small
             FROM %I.%I o WHERE o.tenant_id = $1 LIMIT $2
         ) v', p_schema, p_view)
    USING p_tenant, p_limit, p_most_bytes;
    PERFORM pg_catalog.pg_advisory_unlock_all();
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM pg_catalog.pg_advisory_unlock_all();
    RAISE;
END
$$;

-- Calls a function that the domain has granted, with the tenant's id, within the caller's transaction. The block is a
-- subtransaction, at whose end a transaction that the function has made read-only can write again.
CREATE FUNCTION harkara.call_granted(p_schema text, p_function text, p_tenant uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_written bigint := -1;
    v_before  bigint;
BEGIN
    EXECUTE format('SELECT FROM %I.%I($1)', p_schema, p_function) USING p_tenant;
    -- Constraint triggers that are deferred would run at the transaction's end, before Postgres 18 with the rights of
    -- harkara_worker. They run here, and so does what they defer in turn, which takes a row that is written.
    LOOP
        v_before := v_written;
        SET LOCAL search_path = pg_catalog, pg_temp;
        SELECT sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del) INTO v_written FROM pg_stat_xact_all_tables t;
        EXIT WHEN v_written = v_before;
        SET CONSTRAINTS ALL IMMEDIATE;
    END LOOP;
    -- A cursor WITH HOLD is run to its end there, too.
    EXECUTE 'CLOSE ALL';
    PERFORM pg_advisory_unlock_all();
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM pg_catalog.pg_advisory_unlock_all();
    RAISE;
END
$$;

REVOKE EXECUTE ON FUNCTION harkara.read_candidates, harkara.call_granted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.read_candidates, harkara.call_granted TO harkara_worker;
-- The owner, too, so that it may take rights away from all routines of the schema, as each migration does at its end.
GRANT EXECUTE ON FUNCTION harkara.read_candidates, harkara.call_granted TO harkara_owner WITH GRANT OPTION;
RESET ROLE;

SET LOCAL ROLE harkara_owner;
-- Whoever runs as it owns these two, and could make one run with its caller's rights; in a schema that it may not use it
-- cannot name them.
REVOKE USAGE, CREATE ON SCHEMA harkara FROM harkara_domain_job;

-- Calls it, and takes back whatever it has left in the session: what follows on the connection is ours.
CREATE FUNCTION harkara.call_domain_function(p_schema text, p_function text, p_tenant uuid, p_actor text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.call_granted(p_schema, p_function, p_tenant);
    -- First, because until then names are looked up where the function wants.
    RESET ALL;
    -- A table there would be found before a table of the catalog.
    EXECUTE 'DISCARD TEMP';
    SET LOCAL search_path = pg_catalog;
    -- By DROP OWNED, which names nothing.
    IF (SELECT count(*) FROM pg_proc p
        WHERE p.pronamespace = 'harkara'::regnamespace AND p.proowner = 'harkara_domain_job'::regrole AND p.prosecdef) <> 2
    THEN
        RAISE EXCEPTION 'a function of a domain has changed what calls it' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM harkara.set_tenant(p_tenant, p_actor);
END
$$;

-- What is amiss with a view or a function that a job names; NULL is nothing. Anybody may read the catalog.
CREATE FUNCTION harkara.find_ungranted(p_schema text, p_name text, p_is_function boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT CASE
        WHEN found.id IS NULL THEN 'is not there'
        WHEN NOT found.is_granted OR NOT has_schema_privilege('harkara_domain_job', p_schema, 'USAGE')
            THEN 'is not granted to harkara_domain_job'
        WHEN found.lacks IS NOT NULL THEN 'has no column ' || found.lacks
    END
    FROM (VALUES (1)) one
    LEFT JOIN LATERAL (
        SELECT p.oid AS id, has_function_privilege('harkara_domain_job', p.oid, 'EXECUTE') AS is_granted, NULL AS lacks
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p_is_function AND n.nspname = p_schema AND p.proname = p_name AND p.prokind = 'f'
          AND p.pronargs = 1 AND p.proargtypes[0] = 'uuid'::regtype
        UNION ALL
        SELECT c.oid, has_table_privilege('harkara_domain_job', c.oid, 'SELECT'), (
            SELECT min(wanted) FROM unnest('{tenant_id, key, recipient, data}'::text[]) wanted
            WHERE NOT EXISTS (
                SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = wanted AND NOT a.attisdropped))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT p_is_function AND n.nspname = p_schema AND c.relname = p_name AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
        LIMIT 1
    ) found ON true
$$;

REVOKE EXECUTE ON FUNCTION harkara.call_domain_function, harkara.find_ungranted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.call_domain_function TO harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.find_ungranted TO harkara_api;

RESET ROLE;
