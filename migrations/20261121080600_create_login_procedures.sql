SET LOCAL ROLE harkara_owner;

-- Sets a login role's password; called by the migrate function with what the secrets hold.
CREATE PROCEDURE harkara.set_role_password(role_name text, password text)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format('ALTER ROLE %I PASSWORD %L', role_name, password);
END
$$;

-- Lets the login roles in by RDS IAM tokens, where the server knows them; called by the migrate function.
-- It runs as the caller, who has to be allowed to grant rds_iam.
CREATE PROCEDURE harkara.admit_iam_logins()
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
        GRANT rds_iam TO harkara_api, harkara_worker;
    END IF;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
