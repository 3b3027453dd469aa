-- What finished backends have read of the project's tables: rows with index entries, and pages.
SELECT
    -- Rows that scans returned and index entries that led to them.
    (
        SELECT coalesce(sum(coalesce(t.seq_tup_read, 0) + coalesce(t.idx_tup_fetch, 0)), 0)
        FROM pg_stat_user_tables t
        WHERE t.schemaname = 'harkara'
    )::double precision + (
        SELECT coalesce(sum(i.idx_tup_read), 0)
        FROM pg_stat_user_indexes i
        WHERE i.schemaname = 'harkara'
    )::double precision,
    -- Pages of tables, their toast and their indexes, whether they were in memory or not.
    (
        SELECT coalesce(sum(
            coalesce(p.heap_blks_read, 0) + coalesce(p.heap_blks_hit, 0)
            + coalesce(p.idx_blks_read, 0) + coalesce(p.idx_blks_hit, 0)
            + coalesce(p.toast_blks_read, 0) + coalesce(p.toast_blks_hit, 0)
            + coalesce(p.tidx_blks_read, 0) + coalesce(p.tidx_blks_hit, 0)), 0)
        FROM pg_statio_user_tables p
        WHERE p.schemaname = 'harkara'
    )::double precision
