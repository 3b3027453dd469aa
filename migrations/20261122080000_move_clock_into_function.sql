-- What time it is, and new ids, in one place each; and what flows other than enqueue need to create notifications.
-- Safe beside running code: what is replaced does as before.
SET LOCAL ROLE harkara_owner;

-- The time by which everything is due, leased or expired: that of the transaction. All of the schema and every statement
-- ask this function, so that whoever tries something out can let a day pass by replacing it. It is inlined, and costs
-- nothing. The audit log alone keeps the server's own time, because its chain is held against other logs.
CREATE FUNCTION harkara.now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.now();

-- Like harkara.now(), and running on within the transaction: for what is read behind a lock.
CREATE FUNCTION harkara.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN harkara.now() + (pg_catalog.clock_timestamp() - pg_catalog.now());

-- A UUIDv7 (RFC 9562, section 5.7), for rows that the database itself makes: Postgres has its own from 18 on.
CREATE FUNCTION harkara.new_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM harkara.clock()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid;

-- Everything that asked the server for the time asks the function from now on. Sealing and reading the audit log do not.
DO $$
DECLARE
    routine record;
    column_default record;
BEGIN
    FOR routine IN
        SELECT p.oid::regprocedure AS name, pg_get_functiondef(p.oid) AS definition
        FROM pg_proc p
        WHERE p.pronamespace = 'harkara'::regnamespace
          AND p.proname NOT IN ('now', 'clock', 'new_id', 'write_audit', 'seal_audit', 'verify_audit', 'make_partitions')
    LOOP
        IF routine.definition ~ '(?<![.\w])(now|clock_timestamp)\(\)' THEN
            EXECUTE regexp_replace(regexp_replace(routine.definition,
                '(?<![.\w])now\(\)', 'harkara.now()', 'g'),
                '(?<![.\w])clock_timestamp\(\)', 'harkara.clock()', 'g');
        END IF;
    END LOOP;
    FOR column_default IN
        SELECT d.adrelid::regclass AS table_name, a.attname AS column_name
        FROM pg_attrdef d
        JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        JOIN pg_class c ON c.oid = d.adrelid
        WHERE c.relnamespace = 'harkara'::regnamespace AND pg_get_expr(d.adbin, d.adrelid) = 'now()'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT harkara.now()',
            column_default.table_name, column_default.column_name);
    END LOOP;
END
$$;

-- What a scheduled function creates is accepted in the same way as what a caller asks for.
GRANT SELECT, INSERT, UPDATE, DELETE ON harkara.dedupe_keys TO harkara_worker;
CREATE POLICY worker_may_keep_keys ON harkara.dedupe_keys TO harkara_worker USING (true) WITH CHECK (true);
CALL harkara.admit_worker('harkara.notifications', 'INSERT');
CALL harkara.admit_worker('harkara.deliveries', 'INSERT');
-- What harkara.read_enqueue_context looks into.
CALL harkara.admit_worker('harkara.idempotency_keys', 'SELECT');
CALL harkara.admit_worker('harkara.template_publications', 'SELECT');
-- To lock the recipients of what is stored, which Postgres lets only those do who may change something of the row.
GRANT UPDATE (updated_at) ON harkara.recipients TO harkara_worker;
CREATE POLICY worker_may_lock ON harkara.recipients FOR UPDATE TO harkara_worker USING (true) WITH CHECK (true);

-- Not everything that happens, happens to a notification.
ALTER TABLE harkara.events ALTER COLUMN notification_id DROP NOT NULL;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.now, harkara.clock TO harkara_api, harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.new_id TO harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.enter_tenant, harkara.read_enqueue_context, harkara.accept_notifications TO harkara_worker;

RESET ROLE;
