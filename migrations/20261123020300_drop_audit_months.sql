-- Months of the audit log are dropped when no tenant has to keep them any more, and the chains still prove what is left.
-- Safe beside running code: what verifies does as before where nothing was dropped.
SET LOCAL ROLE harkara_owner;

-- Where a chain has lost its rows: those of the block and of all before it. The blocks stay, and hold together by their
-- hashes; only what they sealed is not there any more. Append-only, like the log.
CREATE TABLE harkara.audit_anchors (
    tenant_id     uuid        NOT NULL,
    block_number  bigint      NOT NULL,
    -- As the block had it, so that neither can be changed without the other.
    block_hash    bytea       NOT NULL,
    -- What was written before this was dropped.
    rows_until_at timestamptz NOT NULL,
    dropped_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, block_number),
    FOREIGN KEY (tenant_id, block_number) REFERENCES harkara.audit_blocks
);

CALL harkara.guard_table('harkara.audit_anchors');
GRANT SELECT ON harkara.audit_anchors TO harkara_api;
CREATE POLICY dropping_reads ON harkara.audit_anchors FOR SELECT TO harkara_owner USING (true);
CREATE POLICY dropping_appends ON harkara.audit_anchors FOR INSERT TO harkara_owner WITH CHECK (true);
CREATE POLICY owner_looks_at_months ON harkara.tenant_settings FOR SELECT TO harkara_owner USING (true);

-- The last block of a tenant's that has lost its rows; 0 where none has. Nobody drops what was sealed within the last year, so
-- that an anchor which says so is forged and excuses nothing.
CREATE FUNCTION harkara.audit_dropped_to(p_tenant uuid) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT coalesce(max(a.block_number), 0)
    FROM harkara.audit_anchors a
    JOIN harkara.audit_blocks b ON b.tenant_id = a.tenant_id AND b.block_number = a.block_number
    WHERE a.tenant_id = p_tenant AND b.sealed_at < harkara.now() - interval '365 days'
$$;

-- Of a block that has lost its rows, the rows are not asked for; but none may have come: more than it had, or one that was
-- written later than it was sealed, by more than clocks differ. By the function's text as it is.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.verify_audit(uuid, bigint, integer)'::regprocedure);
    added      CONSTANT text := E'            WHEN counted > block.row_count THEN ''rows_added''\n';
BEGIN
    IF position(added IN definition) = 0 THEN
        RAISE EXCEPTION 'verify_audit is not as it was';
    END IF;
    EXECUTE replace(definition, added,
        E'            WHEN block.block_hash <> (SELECT a.block_hash FROM harkara.audit_anchors a\n'
        '                WHERE a.tenant_id = p_tenant AND a.block_number = block.block_number) THEN ''block_changed''\n'
        || added ||
        E'            WHEN block.block_number <= harkara.audit_dropped_to(p_tenant) THEN CASE WHEN EXISTS (\n'
        '                SELECT FROM harkara.audit_log l\n'
        '                WHERE l.tenant_id = p_tenant AND (l.xact, l.audit_id) >= (block.from_xact, block.from_id)\n'
        '                  AND (l.xact, l.audit_id) < (block.to_xact, block.to_id)\n'
        '                  AND l.changed_at > block.sealed_at + interval ''1 hour'') THEN ''rows_added'' END\n');
END
$$;

-- Drops the months of the audit log that are older than the longest time for which any tenant keeps anything, and than a
-- year, and that were sealed to the last row before then; each with an anchor for every tenant that had rows in it. So a row
-- whose time is a wrong clock's, or a forger's, keeps its month, and takes no younger row's proof along. Answers with how many
-- months, and with a digest of the anchors for the function's log, which is beyond the database's reach.
-- SECURITY DEFINER, with no say in what: nobody else may drop history.
CREATE FUNCTION harkara.keep_audit_months() RETURNS TABLE (dropped_count integer, anchors_hash bytea)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    month   record;
    before  timestamptz;
    ended   regclass[] := '{}';
    hashes  bytea := '';
    ends    harkara.audit_anchors[];
BEGIN
    SELECT harkara.now() - make_interval(days => greatest(365, max(s.retention_days), max(c.days::integer))) INTO before
    FROM harkara.tenant_settings s
    LEFT JOIN LATERAL jsonb_each_text(s.retention_days_by_class) AS c (class, days) ON true;

    FOR month IN
        SELECT m.* FROM harkara.list_months('harkara.audit_log') m
        WHERE m.until_at < before ORDER BY m.since_at
    LOOP
        -- Nobody writes there any more; and whoever reads is let in, and not waited for.
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', month.month_name);
        ends := ARRAY(
            -- Steps from tenant to tenant through the month's index, however many rows each has.
            WITH RECURSIVE known AS (
                (SELECT l.tenant_id FROM harkara.audit_log l
                 WHERE l.changed_at >= month.since_at AND l.changed_at < month.until_at ORDER BY l.tenant_id LIMIT 1)
                UNION ALL
                SELECT (SELECT l.tenant_id FROM harkara.audit_log l
                        WHERE l.changed_at >= month.since_at AND l.changed_at < month.until_at AND l.tenant_id > k.tenant_id
                        ORDER BY l.tenant_id LIMIT 1)
                FROM known k WHERE k.tenant_id IS NOT NULL
            )
            SELECT ROW(k.tenant_id, block.block_number, block.block_hash, month.until_at, harkara.now())::harkara.audit_anchors
            FROM known k
            CROSS JOIN LATERAL (
                SELECT l.xact, l.audit_id FROM harkara.audit_log l
                WHERE l.tenant_id = k.tenant_id AND l.changed_at >= month.since_at AND l.changed_at < month.until_at
                ORDER BY l.xact DESC, l.audit_id DESC LIMIT 1
            ) last
            LEFT JOIN LATERAL (
                SELECT b.block_number, b.block_hash FROM harkara.audit_blocks b
                WHERE b.tenant_id = k.tenant_id AND (b.from_xact, b.from_id) <= (last.xact, last.audit_id)
                  AND (last.xact, last.audit_id) < (b.to_xact, b.to_id) AND b.sealed_at < before
                ORDER BY b.block_number DESC LIMIT 1
            ) block ON true
            WHERE k.tenant_id IS NOT NULL
            ORDER BY k.tenant_id);
        -- What is in no block could not be missed. The months after it wait, too, so that what is left is one piece.
        EXIT WHEN EXISTS (SELECT FROM unnest(ends) e WHERE e.block_number IS NULL);
        INSERT INTO harkara.audit_anchors SELECT e.* FROM unnest(ends) e ON CONFLICT DO NOTHING;
        SELECT hashes || coalesce(string_agg(e.block_hash, ''::bytea ORDER BY e.tenant_id), '') INTO hashes
        FROM unnest(ends) e;
        ended := ended || month.month_name;
    END LOOP;
    IF cardinality(ended) > 0 THEN
        -- As in harkara.keep_months: nobody gets past it, and everything is looked up.
        LOCK TABLE ONLY harkara.audit_log IN ACCESS EXCLUSIVE MODE;
        EXECUTE (SELECT 'DROP TABLE ' || string_agg(m::text, ', ') FROM unnest(ended) m);
    END IF;
    RETURN QUERY SELECT cardinality(ended), CASE WHEN cardinality(ended) > 0 THEN sha256(hashes) END;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.audit_dropped_to TO harkara_api;
GRANT EXECUTE ON FUNCTION harkara.keep_audit_months TO harkara_worker;

RESET ROLE;
