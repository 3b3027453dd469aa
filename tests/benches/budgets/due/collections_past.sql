-- Old batches of two notifications, closed by a message.
WITH numbered AS (
    SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id, past.at
    FROM generate_series($1::bigint, $2::bigint - 1) n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
),
closed AS (
    INSERT INTO harkara.collections
        (tenant_id, collection_id, kind, category_key, recipient_id, collection_key, sandbox, member_count, latest_at,
         closed_at, outcome, notification_id, absorbed_count, created_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, 'batch', 'known', 'r' || n % 100000, id::text, false, 2, at, at, 'message', id, 2, at
    FROM numbered
)
INSERT INTO harkara.collection_members (tenant_id, notification_id, collection_id, position)
SELECT '01936f00-0000-7000-8000-00000000beac', ('f' || p.position || lpad(to_hex(n), 30, '0'))::uuid, id, p.position
FROM numbered
CROSS JOIN (VALUES (1), (2)) p (position)
