-- Batches of two notifications to one recipient each, whose window has just closed.
WITH numbered AS MATERIALIZED (
    SELECT n, harkara.new_id() AS first_id, harkara.new_id() AS second_id
    FROM generate_series($1::bigint, $2::bigint - 1) n
),
opened AS (
    INSERT INTO harkara.collections
        (tenant_id, collection_id, kind, category_key, recipient_id, collection_key, sandbox, member_count, due_at, latest_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', first_id, 'batch', 'known', 'r' || n, first_id::text, false, 2, now(), now()
    FROM numbered
),
members AS (
    SELECT n, first_id AS collection_id, first_id AS notification_id, 1 AS position FROM numbered
    UNION ALL
    SELECT n, first_id, second_id, 2 FROM numbered
),
made AS (
    INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, data, send_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', notification_id, 'known', 'r' || n, 'bench', jsonb_build_object('number', n), now()
    FROM members
),
waiting AS (
    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', harkara.new_id(), notification_id, 'email', 'scheduled', 3, now(), now() + interval '1 day'
    FROM members
)
INSERT INTO harkara.collection_members (tenant_id, notification_id, collection_id, position)
SELECT '01936f00-0000-7000-8000-00000000beac', notification_id, collection_id, position
FROM members
