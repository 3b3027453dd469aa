-- Old deadlines, completed, whose one reminder has fired.
WITH numbered AS (
    SELECT n, 'past-' || n AS deadline_key, 'r' || n % 100000 AS recipient_id, past.at
    FROM generate_series($1::bigint, $2::bigint - 1) n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
),
kept AS (
    INSERT INTO harkara.deadlines
        (tenant_id, deadline_key, category_key, recipients, due_at, rungs, when_past, completed_at, created_at, updated_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', deadline_key, 'known', ARRAY[recipient_id], at, '[{"before": "PT1H"}]', 'skip', at, at, at
    FROM numbered
)
INSERT INTO harkara.rungs
    (tenant_id, deadline_key, recipient_id, rung_key, due_at, state, fire_at, notification_id, decided_at)
SELECT '01936f00-0000-7000-8000-00000000beac', deadline_key, recipient_id, '-PT1H', at, 'fired', at - interval '1 hour', lpad(to_hex(n), 32, '0')::uuid,
       at - interval '1 hour'
FROM numbered
