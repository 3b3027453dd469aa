-- Roles are the cluster's, not the database's, so each is made only where it is missing.
-- Safe beside running code: nothing existing is changed.
--
-- harkara_owner   owns every object and cannot log in; FORCE ROW LEVEL SECURITY binds it too
-- harkara_api     enqueue and api: one tenant, set for the transaction by harkara.set_tenant
-- harkara_worker  processor, dispatcher, dead_letter: own policies per table, no BYPASSRLS
--
-- Timeouts live on the roles because RDS Proxy refuses start-up options and has no CancelRequest:
-- the server's own timeout is the only brake on a statement.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'harkara_owner') THEN
        CREATE ROLE harkara_owner NOLOGIN;
    END IF;

    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'harkara_api') THEN
        CREATE ROLE harkara_api LOGIN;
        ALTER ROLE harkara_api SET statement_timeout = '5s';
        ALTER ROLE harkara_api SET lock_timeout = '2s';
        ALTER ROLE harkara_api SET idle_in_transaction_session_timeout = '10s';
    END IF;

    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'harkara_worker') THEN
        CREATE ROLE harkara_worker LOGIN;
        ALTER ROLE harkara_worker SET statement_timeout = '10s';
        ALTER ROLE harkara_worker SET lock_timeout = '2s';
        ALTER ROLE harkara_worker SET idle_in_transaction_session_timeout = '10s';
    END IF;

    -- A master user of RDS is no superuser: it may create for the owner only as its member.
    -- From Postgres 16 on, making a role does not let its maker act as it; the grant does.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT harkara_owner TO %I', current_user);
    END IF;
END
$$;

CREATE SCHEMA harkara AUTHORIZATION harkara_owner;

GRANT USAGE ON SCHEMA harkara TO harkara_api, harkara_worker;
