-- Retention goes on where it stopped: within a run no notification is looked at twice, however many cannot go yet.
-- Safe beside running code: what calls the function with two arguments gets what it got, and no table changes.
SET LOCAL ROLE harkara_owner;

-- Whether nothing of a notification is open, and nothing of it has changed since a time: it has no open delivery, no open
-- batch or debounce, no event that still has to be told, and no key that still turns others away.
-- In plpgsql, for a plan that each row uses again.
CREATE FUNCTION harkara.has_ended_before(p_tenant uuid, p_notification uuid, p_cutoff timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog
AS $$
BEGIN
    RETURN NOT EXISTS (
            SELECT FROM harkara.deliveries d
            WHERE d.tenant_id = p_tenant AND d.notification_id = p_notification
              AND (d.due_at IS NOT NULL OR d.updated_at >= p_cutoff))
        -- What has left into a batch or a debounce is what that will tell of.
        AND NOT EXISTS (
            SELECT FROM harkara.collection_members m
            JOIN harkara.collections o ON o.tenant_id = p_tenant AND o.collection_id = m.collection_id
            WHERE m.tenant_id = p_tenant AND m.notification_id = p_notification AND o.closed_at IS NULL)
        AND NOT EXISTS (
            SELECT FROM harkara.events e WHERE e.tenant_id = p_tenant AND e.notification_id = p_notification)
        AND NOT EXISTS (
            SELECT FROM harkara.dedupe_keys k
            WHERE k.tenant_id = p_tenant AND k.notification_id = p_notification AND k.expires_at > harkara.now());
END
$$;

DROP FUNCTION harkara.keep_retention(uuid, integer);

-- Deletes a bounded part of what a tenant has kept for long enough, and of what has expired there.
-- {"notifications", "expired", "kept", "leaves_more", "after"}: `kept` are those that something else refers to, such as what
-- is still running; `after` says how far each category was looked through, and is what the next call of the run is given.
-- One call looks at 25 times as many notifications as it may delete.
-- Given nothing, it begins anew, and says that there is more only where something went.
-- SECURITY DEFINER, with no say in what: nobody else may delete history.
CREATE FUNCTION harkara.keep_retention(p_tenant uuid, p_limit integer, p_after jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most      CONSTANT integer := least(greatest(p_limit, 1), 1000);
    -- How many may still be looked at.
    looks     integer := most * 25;
    v_days    integer;
    v_longest integer;
    v_after   jsonb := coalesce(p_after, '{}');
    category  record;
    seen      record;
    over      record;
    chosen    uuid[] := '{}';
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

    FOR category IN
        SELECT c.category_key, c.cutoff,
               coalesce((v_after -> c.category_key ->> 'created_at')::timestamptz, '-infinity') AS since_at,
               coalesce((v_after -> c.category_key ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000') AS since_id
        FROM harkara.list_cutoffs(p_tenant) c
    LOOP
        EXIT WHEN looks <= 0 OR cardinality(chosen) >= most;
        FOR seen IN
            SELECT n.notification_id, n.created_at FROM harkara.notifications n
            WHERE n.tenant_id = p_tenant AND n.category_key = category.category_key AND n.created_at < category.cutoff
              AND (n.created_at, n.notification_id) > (category.since_at, category.since_id)
            ORDER BY n.created_at, n.notification_id
            LIMIT looks
        LOOP
            looks := looks - 1;
            category.since_at := seen.created_at;
            category.since_id := seen.notification_id;
            IF harkara.has_ended_before(p_tenant, seen.notification_id, category.cutoff) THEN
                chosen := chosen || seen.notification_id;
                EXIT WHEN cardinality(chosen) >= most;
            END IF;
        END LOOP;
        v_after := v_after || jsonb_build_object(
            category.category_key, jsonb_build_object('created_at', category.since_at, 'id', category.since_id));
    END LOOP;
    is_full := looks <= 0 OR cardinality(chosen) >= most;
    -- What somebody else holds stays until the next run.
    chosen := ARRAY(
        SELECT n.notification_id FROM harkara.notifications n
        WHERE n.tenant_id = p_tenant AND n.notification_id = ANY (chosen)
        FOR UPDATE SKIP LOCKED);
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
    is_full := is_full AND (deleted > 0 OR p_after IS NOT NULL);

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
    counted := harkara.forget_candidates(p_tenant, most, v_days);
    expired := expired + counted;
    is_full := is_full OR counted >= most;

    RETURN jsonb_build_object(
        'notifications', deleted, 'expired', expired, 'kept', kept, 'leaves_more', is_full, 'after', v_after);
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.keep_retention TO harkara_worker;

RESET ROLE;
