SET LOCAL ROLE harkara_owner;

-- Names the tenant and who acts for it, until the transaction ends.
-- It is a function because RDS Proxy pins a session that calls set_config itself and does not look into functions.
-- Outside a transaction the setting is gone before the next statement, so callers open one, or do their work in a function.
CREATE FUNCTION harkara.set_tenant(tenant uuid, actor text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM set_config('harkara.tenant_id', tenant::text, true),
            set_config('harkara.actor', coalesce(actor, ''), true);
END
$$;

-- The tenant of this transaction, NULL where none is set.
-- A setting that was local to an earlier transaction reads as '', hence nullif.
CREATE FUNCTION harkara.current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('harkara.tenant_id', true), '')::uuid;

-- Who acts: the caller's subject where the API named one, else the role that logged in.
CREATE FUNCTION harkara.current_actor() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('harkara.actor', true), ''), session_user);

-- Gives a table its tenant wall: row level security, enabled and forced, with the tenant policy for harkara_api.
-- The subselect makes the setting an init-plan: read once for a statement, not once for a row.
CREATE PROCEDURE harkara.guard_table(guarded regclass)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', guarded);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', guarded);
    EXECUTE format(
        'CREATE POLICY tenant_sees_its_own ON %s TO harkara_api
         USING (tenant_id = (SELECT harkara.current_tenant()))
         WITH CHECK (tenant_id = (SELECT harkara.current_tenant()))', guarded);
END
$$;

-- Lets harkara_worker, which serves all tenants, do the named commands on a table.
CREATE PROCEDURE harkara.admit_worker(admitted regclass, VARIADIC commands text[])
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    command text;
BEGIN
    FOREACH command IN ARRAY commands LOOP
        EXECUTE format('GRANT %s ON %s TO harkara_worker', command, admitted);
        EXECUTE format('CREATE POLICY %I ON %s FOR %s TO harkara_worker %s',
            'worker_may_' || lower(command), admitted, command,
            CASE command
                WHEN 'INSERT' THEN 'WITH CHECK (true)'
                WHEN 'UPDATE' THEN 'USING (true) WITH CHECK (true)'
                ELSE 'USING (true)'
            END);
    END LOOP;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.set_tenant, harkara.current_tenant, harkara.current_actor TO harkara_api, harkara_worker;

RESET ROLE;
