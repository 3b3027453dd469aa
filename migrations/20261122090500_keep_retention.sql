-- Retention: what has ended is deleted when its tenant has kept it for long enough, and so is what has expired.
-- Beside running code, writes of two small tables and of one are waited for while their indexes are built; the columns
-- have constants for their defaults, so no row is rewritten.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.tenant_settings
    -- For how many days what has ended is kept.
    ADD COLUMN retention_days integer NOT NULL DEFAULT 365,
    -- Where a class of categories has its own: {class: days}.
    ADD COLUMN retention_days_by_class jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT retention_is_bounded CHECK (retention_days BETWEEN 1 AND 3650),
    ADD CONSTRAINT retention_by_class_is_an_object CHECK (jsonb_typeof(retention_days_by_class) = 'object');

-- Deleting a notification asks each of these whether it is referred to.
CREATE INDEX dedupe_keys_by_notification ON harkara.dedupe_keys (tenant_id, notification_id);
CREATE INDEX dead_letters_by_delivery ON harkara.dead_letters (tenant_id, delivery_id);
-- What has expired.
CREATE INDEX idempotency_keys_by_expiry ON harkara.idempotency_keys (tenant_id, expires_at);
CREATE INDEX dedupe_keys_by_expiry ON harkara.dedupe_keys (tenant_id, expires_at);
CREATE INDEX send_slots_by_time ON harkara.send_slots (tenant_id, taken_at);
CREATE INDEX collections_by_end ON harkara.collections (tenant_id, closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX job_runs_by_end ON harkara.job_runs (tenant_id, finished_at);
CREATE INDEX door_requests_refused ON harkara.door_requests (tenant_id, refused_at) WHERE refused_at IS NOT NULL;

CREATE POLICY owner_keeps_retention ON harkara.dedupe_keys TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.request_rates TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.collections TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.collection_members TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.job_runs TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_reads_retention ON harkara.tenant_settings FOR SELECT TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
-- A month of attempts is dropped only when nobody has a row in it.
CREATE POLICY owner_looks_at_months ON harkara.attempts FOR SELECT TO harkara_owner USING (true);

-- Deletes notifications with all that belongs to them, in the order that foreign keys want. What another table still
-- refers to ends the statement with a foreign key violation.
CREATE FUNCTION harkara.delete_notifications(p_tenant uuid, p_notifications uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    v_deliveries  uuid[];
    v_attachments uuid[];
BEGIN
    SELECT coalesce(array_agg(d.delivery_id), '{}') INTO v_deliveries
    FROM harkara.deliveries d WHERE d.tenant_id = p_tenant AND d.notification_id = ANY (p_notifications);
    SELECT coalesce(array_agg(DISTINCT file), '{}') INTO v_attachments
    FROM harkara.notifications n CROSS JOIN LATERAL unnest(n.attachments) file
    WHERE n.tenant_id = p_tenant AND n.notification_id = ANY (p_notifications);
    DELETE FROM harkara.dead_letters l WHERE l.tenant_id = p_tenant AND l.delivery_id = ANY (v_deliveries);
    DELETE FROM harkara.attempts a WHERE a.tenant_id = p_tenant AND a.delivery_id = ANY (v_deliveries);
    DELETE FROM harkara.dedupe_keys k WHERE k.tenant_id = p_tenant AND k.notification_id = ANY (p_notifications);
    DELETE FROM harkara.deliveries d WHERE d.tenant_id = p_tenant AND d.delivery_id = ANY (v_deliveries);
    DELETE FROM harkara.notifications n WHERE n.tenant_id = p_tenant AND n.notification_id = ANY (p_notifications);
    -- What shares a file came with one request, and so at one time.
    DELETE FROM harkara.attachments a
    WHERE a.tenant_id = p_tenant AND a.attachment_id = ANY (v_attachments)
      AND NOT EXISTS (
          SELECT FROM harkara.notifications o
          WHERE o.tenant_id = p_tenant AND o.created_at = a.created_at AND a.attachment_id = ANY (o.attachments));
END
$$;

-- Deletes up to so many rows of a tenant's whose time was so many days ago, the oldest first, where a condition on the row
-- `o` holds. What another run holds is passed over. An index of the table begins with the tenant and that time; that of
-- request_rates does not, whose every request would have to keep it, and whose rows are few.
CREATE FUNCTION harkara.delete_expired(
    p_tenant uuid, p_table regclass, p_time_column text, p_days integer, p_condition text, p_limit integer
) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    deleted integer;
BEGIN
    EXECUTE format(
        'DELETE FROM %1$s d
         WHERE d.tenant_id = $1 AND d.ctid = ANY (ARRAY(
             SELECT o.ctid FROM %1$s o
             WHERE o.tenant_id = $1 AND o.%2$I <= harkara.now() - make_interval(days => $2) AND %3$s
             ORDER BY o.%2$I LIMIT $3 FOR UPDATE SKIP LOCKED))',
        p_table, p_time_column, p_condition)
    USING p_tenant, p_days, p_limit;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;

-- For how long what has ended is kept, and before which time it is not any more: for each of a tenant's categories, and
-- under '' for what has none. In no order, so that no category is always the last.
CREATE FUNCTION harkara.list_cutoffs(p_tenant uuid) RETURNS TABLE (category_key text, days integer, cutoff timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT kept.category_key, kept.days, harkara.now() - make_interval(days => kept.days)
    FROM (
        SELECT c.category_key,
               coalesce((s.retention_days_by_class ->> c.class)::integer, s.retention_days, 365) AS days
        FROM (
            SELECT c.category_key, c.class FROM harkara.categories c WHERE c.tenant_id = p_tenant
            UNION ALL SELECT '', NULL
        ) c
        LEFT JOIN harkara.tenant_settings s ON s.tenant_id = p_tenant
    ) kept
    ORDER BY random()
$$;

-- Deletes a bounded part of what a tenant has kept for long enough, and of what has expired there.
-- Ended is what has no open delivery, no open batch or debounce, no event that still has to be told, and no key that still
-- turns others away; its time is that of its last change. {"notifications", "expired", "kept", "leaves_more"}: `kept` are
-- those that something else refers to, such as what is still running.
-- SECURITY DEFINER, with no say in what: nobody else may delete history.
CREATE FUNCTION harkara.keep_retention(p_tenant uuid, p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most      CONSTANT integer := least(greatest(p_limit, 1), 1000);
    v_days    integer;
    v_longest integer;
    over      record;
    chosen    uuid[];
    one       uuid;
    deleted   integer := 0;
    kept      integer := 0;
    expired   integer := 0;
    counted   integer;
    is_full   boolean;
BEGIN
    PERFORM harkara.set_tenant(p_tenant, 'maintenance');
    SELECT max(c.days) FILTER (WHERE c.category_key = ''), max(c.days) INTO v_days, v_longest
    FROM harkara.list_cutoffs(p_tenant) c;

    chosen := ARRAY(
        SELECT ended.notification_id
        FROM harkara.list_cutoffs(p_tenant) c
        CROSS JOIN LATERAL (
            SELECT n.notification_id FROM harkara.notifications n
            WHERE n.tenant_id = p_tenant AND n.category_key = c.category_key AND n.created_at < c.cutoff
              AND NOT EXISTS (
                  SELECT FROM harkara.deliveries d
                  WHERE d.tenant_id = p_tenant AND d.notification_id = n.notification_id
                    AND (d.due_at IS NOT NULL OR d.updated_at >= c.cutoff))
              -- What has left into a batch or a debounce is what that will tell of.
              AND NOT EXISTS (
                  SELECT FROM harkara.collection_members m
                  JOIN harkara.collections o ON o.tenant_id = p_tenant AND o.collection_id = m.collection_id
                  WHERE m.tenant_id = p_tenant AND m.notification_id = n.notification_id AND o.closed_at IS NULL)
              AND NOT EXISTS (
                  SELECT FROM harkara.events e
                  WHERE e.tenant_id = p_tenant AND e.notification_id = n.notification_id)
              AND NOT EXISTS (
                  SELECT FROM harkara.dedupe_keys k
                  WHERE k.tenant_id = p_tenant AND k.notification_id = n.notification_id
                    AND k.expires_at > harkara.now())
            ORDER BY n.created_at, n.notification_id
            LIMIT most
            FOR UPDATE SKIP LOCKED
        ) ended
        LIMIT most);
    is_full := cardinality(chosen) >= most;
    -- A dead one may be on its way back: whoever redrives it holds the row, and what has become open is left out.
    PERFORM FROM harkara.deliveries d
    WHERE d.tenant_id = p_tenant AND d.notification_id = ANY (chosen) ORDER BY d.delivery_id FOR UPDATE;
    chosen := ARRAY(
        SELECT n FROM unnest(chosen) n
        WHERE NOT EXISTS (
            SELECT FROM harkara.deliveries d
            WHERE d.tenant_id = p_tenant AND d.notification_id = n AND d.due_at IS NOT NULL));
    BEGIN
        PERFORM harkara.delete_notifications(p_tenant, chosen);
        deleted := cardinality(chosen);
    EXCEPTION WHEN foreign_key_violation THEN
        FOREACH one IN ARRAY chosen LOOP
            BEGIN
                PERFORM harkara.delete_notifications(p_tenant, ARRAY[one]);
                deleted := deleted + 1;
            EXCEPTION WHEN foreign_key_violation THEN
                kept := kept + 1;
            END;
        END LOOP;
    END;
    is_full := is_full AND deleted > 0;

    FOR over IN
        SELECT * FROM (VALUES
            ('harkara.idempotency_keys'::regclass, 'expires_at', 0, 'true'),
            ('harkara.dedupe_keys', 'expires_at', 0, 'true'),
            -- No throttle and no cap looks further back than 30 days.
            ('harkara.send_slots', 'taken_at', 31, 'true'),
            -- A bucket that is full again is like one that was never there.
            ('harkara.request_rates', 'full_at', 1, 'true'),
            ('harkara.door_requests', 'refused_at', v_days, 'true'),
            -- Its members are gone by then, whatever their class: none is looked at each day only to be kept.
            ('harkara.collections', 'closed_at', v_longest, 'NOT EXISTS (
                SELECT FROM harkara.collection_members m
                WHERE m.tenant_id = o.tenant_id AND m.collection_id = o.collection_id)'),
            ('harkara.job_runs', 'finished_at', least(v_days, 90), 'true')
        ) AS expiring (table_name, time_column, days, condition)
    LOOP
        counted := harkara.delete_expired(p_tenant, over.table_name, over.time_column, over.days, over.condition, most);
        expired := expired + counted;
        is_full := is_full OR counted >= most;
    END LOOP;

    RETURN jsonb_build_object('notifications', deleted, 'expired', expired, 'kept', kept, 'leaves_more', is_full);
END
$$;

-- The months of a history, the oldest first: its partitions, by their bounds and not by their names.
CREATE FUNCTION harkara.list_months(p_history regclass)
RETURNS TABLE (month_name regclass, since_at timestamptz, until_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog
SET timezone = 'UTC'
AS $$
    SELECT bounds.name, bounds.since[1]::timestamptz, bounds.until[1]::timestamptz
    FROM (
        SELECT c.oid::regclass AS name,
               regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\)') AS since,
               regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)') AS until
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = p_history
    ) bounds
    WHERE bounds.since IS NOT NULL
    ORDER BY 2
$$;

-- Drops those months of the attempts that are over and that retention has emptied, and makes the months of both histories
-- for the coming year; answers with how many it dropped.
--
-- The history is locked before any of its months, as by every statement that looks into it: who began with a month would
-- wait for those who wait for that month. Nobody gets past the lock, so that everything is looked up before it.
CREATE FUNCTION harkara.keep_months() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    emptied regclass[];
    month   record;
    dropped integer := 0;
BEGIN
    -- Asked of the parent, whose policy shows all rows; a partition's own would show none.
    emptied := ARRAY(
        SELECT m.month_name FROM harkara.list_months('harkara.attempts') m
        WHERE m.until_at < harkara.now() - interval '1 day'
          AND NOT EXISTS (
              SELECT FROM harkara.attempts a WHERE a.started_at >= m.since_at AND a.started_at < m.until_at));
    IF cardinality(emptied) > 0 THEN
        LOCK TABLE ONLY harkara.attempts IN ACCESS EXCLUSIVE MODE;
    END IF;
    FOR month IN
        SELECT m.* FROM harkara.list_months('harkara.attempts') m WHERE m.month_name = ANY (emptied) ORDER BY m.since_at
    LOOP
        -- Somebody may have written there before the lock.
        CONTINUE WHEN EXISTS (
            SELECT FROM harkara.attempts a WHERE a.started_at >= month.since_at AND a.started_at < month.until_at);
        EXECUTE format('DROP TABLE %s', month.month_name);
        dropped := dropped + 1;
    END LOOP;
    CALL harkara.make_partitions('harkara.attempts', 12);
    CALL harkara.make_partitions('harkara.audit_log', 12);
    RETURN dropped;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.keep_retention, harkara.keep_months TO harkara_worker;

RESET ROLE;
