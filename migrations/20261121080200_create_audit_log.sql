SET LOCAL ROLE harkara_owner;

-- Every change of every tenant table, written by trigger in the transaction of the change.
-- Append-only: nobody is granted UPDATE, DELETE or TRUNCATE, and months are dropped whole.
CREATE TABLE harkara.audit_log (
    tenant_id   uuid        NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    audit_id    bigint      GENERATED ALWAYS AS IDENTITY,
    actor       text        NOT NULL,
    table_name  text        NOT NULL,
    operation   text        NOT NULL,
    -- The row's primary key, without the tenant.
    row_key     jsonb       NOT NULL,
    -- Only the columns that changed; personal and bulky ones as a salted digest.
    old_values  jsonb,
    new_values  jsonb,
    PRIMARY KEY (tenant_id, changed_at, audit_id),
    CONSTRAINT operation_is_known CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE')),
    CONSTRAINT old_values_unless_inserted CHECK ((operation = 'INSERT') = (old_values IS NULL)),
    CONSTRAINT new_values_unless_deleted CHECK ((operation = 'DELETE') = (new_values IS NULL))
) PARTITION BY RANGE (changed_at);

-- Where no month has been made ahead, rows land here rather than fail the change they describe.
CREATE TABLE harkara.audit_log_default PARTITION OF harkara.audit_log DEFAULT;

CALL harkara.guard_table('harkara.audit_log');
CALL harkara.guard_table('harkara.audit_log_default');
CREATE POLICY triggers_append ON harkara.audit_log FOR INSERT TO harkara_owner WITH CHECK (true);
GRANT SELECT ON harkara.audit_log TO harkara_api;

-- Replaces the named keys by a digest, salted with the tenant, that shows a change without showing the value.
CREATE FUNCTION harkara.hide_values(shown jsonb, hidden text[], tenant uuid) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog
AS $$
    SELECT coalesce(jsonb_object_agg(
        key,
        CASE WHEN key = ANY (hidden) AND value <> 'null'
             THEN to_jsonb('sha256:' || left(encode(sha256(convert_to(tenant::text || value::text, 'UTF8')), 'hex'), 16))
             ELSE value END), '{}')
    FROM jsonb_each(shown)
$$;

-- The trigger behind every audited table; statement level, so that a batch costs one insert.
-- Arguments: the key columns, then the hidden ones, both comma separated.
-- SECURITY DEFINER because no login role may insert into the log itself.
-- It runs with every claim and record, so what each row needs stands in the statements: a call of a SQL function
-- that aggregates is not inlined and costs more than the rest of the row. Few rows have something to hide.
CREATE FUNCTION harkara.write_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keys   text[] := string_to_array(TG_ARGV[0], ',');
    hidden text[] := string_to_array(TG_ARGV[1], ',');
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, new_values)
        SELECT n.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP,
               (SELECT jsonb_object_agg(k, to_jsonb(n) -> k) FROM unnest(keys) k),
               CASE WHEN shown.row_values ?| hidden THEN harkara.hide_values(shown.row_values, hidden, n.tenant_id)
                    ELSE shown.row_values END
        FROM new_rows n
        CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(to_jsonb(n) - keys - 'tenant_id') AS row_values) shown;
    ELSIF TG_OP = 'UPDATE' THEN
        -- Each row and its key are made once; the join then compares keys only.
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, old_values, new_values)
        WITH n AS MATERIALIZED (
            SELECT r.tenant_id, to_jsonb(r) AS whole,
                   (SELECT jsonb_object_agg(k, to_jsonb(r) -> k) FROM unnest(keys) k) AS row_key
            FROM new_rows r
        ),
        o AS MATERIALIZED (
            SELECT r.tenant_id, to_jsonb(r) AS whole,
                   (SELECT jsonb_object_agg(k, to_jsonb(r) -> k) FROM unnest(keys) k) AS row_key
            FROM old_rows r
        )
        SELECT n.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP, n.row_key,
               CASE WHEN changed.old_values ?| hidden THEN harkara.hide_values(changed.old_values, hidden, n.tenant_id)
                    ELSE changed.old_values END,
               CASE WHEN changed.new_values ?| hidden THEN harkara.hide_values(changed.new_values, hidden, n.tenant_id)
                    ELSE changed.new_values END
        FROM n
        JOIN o USING (tenant_id, row_key)
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(e.key, o.whole -> e.key) AS old_values,
                   jsonb_object_agg(e.key, e.value) AS new_values
            FROM jsonb_each(n.whole) e
            WHERE e.value IS DISTINCT FROM o.whole -> e.key
        ) changed
        WHERE changed.new_values IS NOT NULL;
    ELSE
        INSERT INTO harkara.audit_log (tenant_id, actor, table_name, operation, row_key, old_values)
        SELECT o.tenant_id, harkara.current_actor(), TG_TABLE_NAME, TG_OP,
               (SELECT jsonb_object_agg(k, to_jsonb(o) -> k) FROM unnest(keys) k),
               CASE WHEN shown.row_values ?| hidden THEN harkara.hide_values(shown.row_values, hidden, o.tenant_id)
                    ELSE shown.row_values END
        FROM old_rows o
        CROSS JOIN LATERAL (SELECT jsonb_strip_nulls(to_jsonb(o) - keys - 'tenant_id') AS row_values) shown;
    END IF;
    RETURN NULL;
END
$$;

CREATE PROCEDURE harkara.audit_table(audited regclass, key_columns text, hidden_columns text DEFAULT '')
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER audit_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
         FOR EACH STATEMENT EXECUTE FUNCTION harkara.write_audit(%L, %L)', audited, key_columns, hidden_columns);
    EXECUTE format(
        'CREATE TRIGGER audit_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
         FOR EACH STATEMENT EXECUTE FUNCTION harkara.write_audit(%L, %L)', audited, key_columns, hidden_columns);
    EXECUTE format(
        'CREATE TRIGGER audit_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows
         FOR EACH STATEMENT EXECUTE FUNCTION harkara.write_audit(%L, %L)', audited, key_columns, hidden_columns);
END
$$;

-- Makes the monthly partitions of a history table, from this month on; what exists already is left alone.
-- The migrate function calls it at every deploy; SECURITY DEFINER makes the partitions the owner's whoever calls.
CREATE PROCEDURE harkara.make_partitions(parent regclass, months_ahead integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    month   timestamptz;
    partition_name text;
BEGIN
    FOR month IN
        SELECT generate_series(
            date_trunc('month', now(), 'UTC'),
            date_trunc('month', now(), 'UTC') + make_interval(months => months_ahead),
            interval '1 month')
    LOOP
        partition_name := format('%s_%s',
            (SELECT relname FROM pg_class WHERE oid = parent), to_char(month AT TIME ZONE 'UTC', 'YYYYMM'));
        IF to_regclass('harkara.' || partition_name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE harkara.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                    partition_name, parent, month, month + interval '1 month');
                EXECUTE format('CALL harkara.guard_table(%L)', 'harkara.' || partition_name);
            EXCEPTION WHEN check_violation THEN
                -- No reason to fail a deploy: the month's rows are kept, all in the default partition.
                RAISE WARNING 'rows of % are in the default partition of % already', partition_name, parent;
            END;
        END IF;
    END LOOP;
END
$$;

-- At once, before the first change is audited: a row in the default partition would bar its month's own.
CALL harkara.make_partitions('harkara.audit_log', 12);

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.set_tenant, harkara.current_tenant, harkara.current_actor TO harkara_api, harkara_worker;

RESET ROLE;
