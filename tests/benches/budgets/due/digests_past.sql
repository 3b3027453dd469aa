-- Old digests of a hundred thousand recipients, each with the one delivery that left with it: of periods before the one that
-- is due.
WITH numbered AS (
    SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id, 'r' || n % 100000 AS recipient_id, past.at
    FROM generate_series($1::bigint, $2::bigint - 1) n
    CROSS JOIN LATERAL (SELECT now() - interval '2 days' - n * interval '1 second' AS at) past
),
closed AS (
    INSERT INTO harkara.digests
        (tenant_id, notification_id, recipient_id, category_key, channel, period_end_at, is_regular, member_count, created_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, recipient_id, 'digest', 'email', at, false, 1, at
    FROM numbered
)
INSERT INTO harkara.digest_entries
    (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at, digest_notification_id, created_at)
SELECT '01936f00-0000-7000-8000-00000000beac', id, recipient_id, 'email', 'digest', 'daily', at, id, at
FROM numbered
