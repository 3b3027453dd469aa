-- Makes the audit log evident of tampering: blocks of rows, chained by hashes, one chain for each tenant.
--
-- Beside running code it is waited for once: the new column's default is stable, so no row is rewritten, but the index
-- is built while nobody writes, some ten seconds for ten million rows. Claims give up after their lock timeout
-- meanwhile, and their messages come back. Old code never names the column, and so fills it by its default.
--
-- Writers are not serialised: nothing is hashed when a row is written. The row only says which transaction wrote it, and
-- once every transaction up to a horizon has ended, nothing can appear below it any more. What lies there is sealed,
-- some at a time: `harkara.seal_audit` appends a block for each tenant that has new rows.
--
-- A chain shows a change to whoever has kept a later head of it. Who may write everything here could also build a new
-- chain, so the dispatcher logs a digest of the new heads of each sealing: the log is beyond the database's reach.
SET LOCAL ROLE harkara_owner;

-- What is added to the cluster's own count of transactions; see harkara.begin_audit_epoch, which replaces this.
CREATE FUNCTION harkara.audit_epoch() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 0::bigint;

-- The number of the transaction that writes now.
CREATE FUNCTION harkara.audit_xact() RETURNS bigint
LANGUAGE sql STABLE
RETURN pg_current_xact_id()::text::bigint + harkara.audit_epoch();

-- Every transaction with a smaller number has ended, so what it wrote is all there.
CREATE FUNCTION harkara.audit_horizon() RETURNS bigint
LANGUAGE sql STABLE
RETURN pg_snapshot_xmin(pg_current_snapshot())::text::bigint + harkara.audit_epoch();

-- Rows that are there already get this transaction's number.
ALTER TABLE harkara.audit_log ADD COLUMN xact bigint NOT NULL DEFAULT harkara.audit_xact();

-- The order of the chain. A row's place is (xact, audit_id).
CREATE INDEX audit_log_by_xact ON harkara.audit_log (tenant_id, xact, audit_id);

-- Sealed rows. A block holds the rows of its tenant from one place to before another, and begins where the one before
-- it ends. Append-only, like the log.
CREATE TABLE harkara.audit_blocks (
    tenant_id     uuid        NOT NULL,
    block_number  bigint      NOT NULL,
    from_xact     bigint      NOT NULL,
    from_id       bigint      NOT NULL,
    to_xact       bigint      NOT NULL,
    to_id         bigint      NOT NULL,
    row_count     bigint      NOT NULL,
    -- Over the rows' own hashes, in order.
    rows_hash     bytea       NOT NULL,
    -- Of the block before; of the first, what harkara.audit_genesis says.
    previous_hash bytea       NOT NULL,
    block_hash    bytea       NOT NULL,
    -- The blocks of one sealing have one time.
    sealed_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, block_number),
    CONSTRAINT block_number_is_positive CHECK (block_number > 0),
    CONSTRAINT block_ends_after_its_begin CHECK ((to_xact, to_id) > (from_xact, from_id)),
    CONSTRAINT rows_were_counted CHECK (row_count >= 0),
    CONSTRAINT hashes_have_their_length CHECK (
        octet_length(rows_hash) = 32 AND octet_length(previous_hash) = 32 AND octet_length(block_hash) = 32)
);

CALL harkara.guard_table('harkara.audit_blocks');
GRANT SELECT ON harkara.audit_blocks TO harkara_api;

-- Sealing reads every tenant's rows and writes every tenant's blocks; so does whoever verifies them all.
CREATE POLICY sealing_reads ON harkara.audit_log FOR SELECT TO harkara_owner USING (true);
CREATE POLICY sealing_reads ON harkara.audit_blocks FOR SELECT TO harkara_owner USING (true);
CREATE POLICY sealing_appends ON harkara.audit_blocks FOR INSERT TO harkara_owner WITH CHECK (true);

-- Each column of a row, in a form that no setting of a session changes and that two rows cannot share: what is NULL is
-- not what is 'null'. A column that the log gets later belongs here, and into no hash of the rows before it.
CREATE FUNCTION harkara.hash_audit_row(r harkara.audit_log) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(json_build_array(
    r.tenant_id, encode(timestamptz_send(r.changed_at), 'hex'), r.audit_id, r.actor, r.table_name, r.operation,
    r.row_key::text, r.old_values::text, r.new_values::text, r.xact)::text, 'UTF8'));

CREATE FUNCTION harkara.hash_audit_block(b harkara.audit_blocks) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(json_build_array(
    encode(b.previous_hash, 'hex'), b.tenant_id, b.block_number, b.from_xact, b.from_id, b.to_xact, b.to_id,
    b.row_count, encode(b.rows_hash, 'hex'), encode(timestamptz_send(b.sealed_at), 'hex'))::text, 'UTF8'));

-- What the first block follows: no two tenants' chains begin alike.
CREATE FUNCTION harkara.audit_genesis(p_tenant uuid) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to('harkara audit of ' || p_tenant::text, 'UTF8'));

-- Below this number the rows of every tenant are sealed. It is the end of the operator's chain, which gets a block
-- whenever a sealing has come to the end of all others.
CREATE FUNCTION harkara.audit_sealed_to() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT b.to_xact FROM harkara.audit_blocks b
        WHERE b.tenant_id = '00000000-0000-0000-0000-000000000000' ORDER BY b.block_number DESC LIMIT 1), 0)
$$;

-- Seals what no running transaction can add to any more, at most so many rows, and appends one block for each tenant
-- that has some. One caller at a time; whoever comes second gets no row.
--
-- `heads_hash` is the digest of the new heads in the order of their tenants; NULL where there are none.
CREATE FUNCTION harkara.seal_audit(p_most_rows integer)
RETURNS TABLE (
    block_count integer, row_count bigint, heads_hash bytea, sealed_to bigint, sealed_at timestamptz, leaves_more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    operator  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    horizon   bigint;
    complete  bigint;
    budget    bigint := p_most_rows;
    begun_at  timestamptz;
    chain     record;
    block     harkara.audit_blocks;
    since     bigint;
    since_id  bigint;
    tenants   uuid[] := '{}';
    heads     bytea[] := '{}';
    sealed    bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('harkara.seal_audit', 0)) THEN
        RETURN;
    END IF;
    -- Statements from here on see whatever the caller before has committed, and all that lies below the horizon.
    horizon := harkara.audit_horizon();
    complete := harkara.audit_sealed_to();
    begun_at := clock_timestamp();

    FOR chain IN
        -- Steps from tenant to tenant through the index, however many rows each has.
        WITH RECURSIVE known AS (
            (SELECT l.tenant_id FROM harkara.audit_log l ORDER BY l.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT l.tenant_id FROM harkara.audit_log l
                    WHERE l.tenant_id > k.tenant_id ORDER BY l.tenant_id LIMIT 1)
            FROM known k WHERE k.tenant_id IS NOT NULL
        ),
        -- The operator is there even without rows of its own.
        asked AS (
            SELECT k.tenant_id FROM known k WHERE k.tenant_id <> operator UNION ALL SELECT operator
        )
        SELECT a.tenant_id, head.block_number, head.block_hash,
               coalesce(head.to_xact, 0) AS to_xact, coalesce(head.to_id, 0) AS to_id
        FROM asked a
        LEFT JOIN LATERAL (
            SELECT b.* FROM harkara.audit_blocks b WHERE b.tenant_id = a.tenant_id ORDER BY b.block_number DESC LIMIT 1
        ) head ON true
        WHERE a.tenant_id = operator OR EXISTS (
            SELECT FROM harkara.audit_log l
            WHERE l.tenant_id = a.tenant_id AND (l.xact, l.audit_id) >= (coalesce(head.to_xact, 0), coalesce(head.to_id, 0))
              AND (l.xact, l.audit_id) >= (complete, 0::bigint) AND l.xact < horizon)
        -- The operator's block says that all others are done. No tenant's backlog stands before the others' each time.
        ORDER BY a.tenant_id = operator, random()
    LOOP
        IF chain.to_xact > horizon THEN
            RAISE EXCEPTION 'the audit of % is sealed up to transaction %, and this cluster has only come to %',
                chain.tenant_id, chain.to_xact, horizon
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'The database was restored into another cluster. CALL harkara.begin_audit_epoch().';
        END IF;
        EXIT WHEN budget <= 0;

        -- Below `complete` nothing is left: what appears there was not written by a transaction of its number. It gets into
        -- no hash, so that the block which spans its place does not verify.
        since := greatest(chain.to_xact, complete);
        since_id := CASE WHEN chain.to_xact = since THEN chain.to_id ELSE 0 END;
        block := NULL;
        block.tenant_id := chain.tenant_id;
        block.block_number := coalesce(chain.block_number, 0) + 1;
        block.previous_hash := coalesce(chain.block_hash, harkara.audit_genesis(chain.tenant_id));
        block.from_xact := chain.to_xact;
        block.from_id := chain.to_id;
        block.sealed_at := begun_at;
        SELECT count(*), sha256(coalesce(string_agg(h.hash, ''::bytea ORDER BY h.xact, h.audit_id, h.changed_at), ''))
        INTO block.row_count, block.rows_hash
        FROM (
            SELECT l.xact, l.audit_id, l.changed_at, harkara.hash_audit_row(l) AS hash
            FROM harkara.audit_log l
            WHERE l.tenant_id = chain.tenant_id AND (l.xact, l.audit_id) >= (since, since_id) AND l.xact < horizon
            ORDER BY l.xact, l.audit_id, l.changed_at
            LIMIT budget
        ) h;
        block.to_xact := horizon;
        block.to_id := 0;
        IF block.row_count = budget THEN
            -- There may be more: the block ends behind its last row.
            SELECT l.xact, l.audit_id + 1 INTO block.to_xact, block.to_id
            FROM harkara.audit_log l
            WHERE l.tenant_id = chain.tenant_id AND (l.xact, l.audit_id) >= (since, since_id) AND l.xact < horizon
            ORDER BY l.xact, l.audit_id, l.changed_at
            OFFSET budget - 1 LIMIT 1;
        END IF;
        budget := budget - block.row_count;
        -- The operator's block alone would be about nothing.
        CONTINUE WHEN block.row_count = 0 AND cardinality(tenants) = 0;

        block.block_hash := harkara.hash_audit_block(block);
        INSERT INTO harkara.audit_blocks SELECT block.*;
        tenants := tenants || block.tenant_id;
        heads := heads || block.block_hash;
        sealed := sealed + block.row_count;
    END LOOP;

    RETURN QUERY SELECT
        cardinality(tenants), sealed,
        (SELECT sha256(string_agg(n.head, ''::bytea ORDER BY n.tenant_id)) FROM unnest(tenants, heads) n (tenant_id, head)),
        harkara.audit_sealed_to(), begun_at, budget <= 0;
END
$$;

-- Verifies blocks of a tenant's chain, from a number on: that each follows the one before, and that its rows are those
-- that were sealed. Stops at the first that does not verify, and before a block that would make too many rows.
--
-- head_*          the last block that verified
-- next_block      where to go on; NULL where the chain has been verified to its end
-- broken_block    the first that does not verify; one behind the last where rows vanished from no block's sight
-- broken_reason   block_missing, block_changed, block_misplaced, rows_added, rows_missing, rows_changed, rows_unsealed
-- unsealed_count  rows behind the last block, which the next sealing takes; NULL where the end was not reached
CREATE FUNCTION harkara.verify_audit(p_tenant uuid, p_from_block bigint, p_most_blocks integer)
RETURNS TABLE (
    block_count bigint, row_count bigint, head_block bigint, head_hash bytea, next_block bigint,
    broken_block bigint, broken_reason text, unsealed_count bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    -- What one call may hash, unless a single block has more.
    most_rows CONSTANT bigint := 200000;
    block     harkara.audit_blocks;
    before    harkara.audit_blocks;
    expected  bigint := p_from_block;
    previous  bytea := harkara.audit_genesis(p_tenant);
    blocks    bigint := 0;
    seen      bigint := 0;
    counted   bigint;
    hashed    bytea;
    broken    bigint;
    reason    text;
    unsealed  bigint;
    go_on     bigint;
    late      bigint;
BEGIN
    before.to_xact := 0;
    before.to_id := 0;
    before.block_number := p_from_block - 1;
    IF p_from_block > 1 THEN
        SELECT * INTO before FROM harkara.audit_blocks b WHERE b.tenant_id = p_tenant AND b.block_number = p_from_block - 1;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 0::bigint, 0::bigint, NULL::bigint, NULL::bytea, NULL::bigint,
                                p_from_block - 1, 'block_missing', NULL::bigint;
            RETURN;
        END IF;
        previous := before.block_hash;
    END IF;

    FOR block IN
        SELECT * FROM harkara.audit_blocks b
        WHERE b.tenant_id = p_tenant AND b.block_number >= p_from_block ORDER BY b.block_number
    LOOP
        IF blocks >= p_most_blocks OR (blocks > 0 AND seen + block.row_count > most_rows) THEN
            go_on := expected;
            EXIT;
        END IF;
        SELECT count(*), sha256(coalesce(string_agg(h.hash, ''::bytea ORDER BY h.xact, h.audit_id, h.changed_at), ''))
        INTO counted, hashed
        FROM (
            SELECT l.xact, l.audit_id, l.changed_at, harkara.hash_audit_row(l) AS hash
            FROM harkara.audit_log l
            WHERE l.tenant_id = p_tenant AND (l.xact, l.audit_id) >= (block.from_xact, block.from_id)
              AND (l.xact, l.audit_id) < (block.to_xact, block.to_id)
        ) h;
        reason := CASE
            WHEN block.block_number <> expected THEN 'block_missing'
            WHEN block.block_hash <> harkara.hash_audit_block(block) THEN 'block_changed'
            WHEN block.previous_hash <> previous
                 OR (block.from_xact, block.from_id) <> (before.to_xact, before.to_id) THEN 'block_misplaced'
            WHEN counted > block.row_count THEN 'rows_added'
            WHEN counted < block.row_count THEN 'rows_missing'
            WHEN hashed <> block.rows_hash THEN 'rows_changed'
        END;
        IF reason IS NOT NULL THEN
            broken := expected;
            EXIT;
        END IF;
        blocks := blocks + 1;
        seen := seen + counted;
        previous := block.block_hash;
        before := block;
        expected := expected + 1;
    END LOOP;

    IF broken IS NULL AND go_on IS NULL THEN
        -- Rows that a sealing has passed by are in no block: their block was taken away, or they came too late to be true.
        SELECT count(*), count(*) FILTER (WHERE l.xact < harkara.audit_sealed_to())
        INTO unsealed, late
        FROM harkara.audit_log l
        WHERE l.tenant_id = p_tenant AND (l.xact, l.audit_id) >= (before.to_xact, before.to_id);
        IF late > 0 THEN
            broken := expected;
            reason := 'rows_unsealed';
        END IF;
    END IF;
    RETURN QUERY SELECT blocks, seen, nullif(before.block_number, 0), CASE WHEN before.block_number > 0 THEN previous END,
                        go_on, broken, reason, unsealed;
END
$$;

-- Lets sealing go on in a cluster that counts its transactions from less than where they were sealed to: one that a dump
-- was restored into. What was written there since has numbers of long ago; it moves, with all that follows, behind
-- everything that was there. Only an administrator may call it, because it changes rows of the log.
CREATE PROCEDURE harkara.begin_audit_epoch()
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_sealed_at timestamptz;
    last_xact      bigint;
    epoch          bigint := harkara.audit_epoch();
BEGIN
    -- Nobody writes the log meanwhile.
    LOCK TABLE harkara.audit_log IN SHARE ROW EXCLUSIVE MODE;
    SELECT max(b.sealed_at), max(b.to_xact) INTO last_sealed_at, last_xact FROM harkara.audit_blocks b;
    IF last_xact IS NULL OR last_xact <= harkara.audit_horizon() THEN
        RAISE EXCEPTION 'the audit is sealed up to transaction %, and this cluster has come further', last_xact
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'There is nothing to be done.';
    END IF;
    SELECT greatest(last_xact, max(l.xact)) + 1 INTO last_xact FROM harkara.audit_log l;

    CREATE POLICY epoch_moves ON harkara.audit_log FOR UPDATE TO harkara_owner USING (true) WITH CHECK (true);
    UPDATE harkara.audit_log l SET xact = l.xact - epoch + last_xact
    WHERE l.changed_at > last_sealed_at AND l.xact <= harkara.audit_xact();
    DROP POLICY epoch_moves ON harkara.audit_log;

    EXECUTE format(
        'CREATE OR REPLACE FUNCTION harkara.audit_epoch() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE RETURN %s::bigint',
        last_xact);
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.seal_audit TO harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.verify_audit, harkara.hash_audit_row, harkara.hash_audit_block, harkara.audit_genesis,
    harkara.audit_sealed_to TO harkara_api;

RESET ROLE;
