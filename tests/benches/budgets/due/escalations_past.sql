-- Old escalations, resolved after their first step, which became one notification.
WITH numbered AS (
    SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id, 'r' || n % 100000 AS recipient_id, past.at
    FROM generate_series($1::bigint, $2::bigint - 1) n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
),
ended AS (
    INSERT INTO harkara.escalations
        (tenant_id, escalation_id, policy_key, definition, state, level, tier, level_fired_at, finished_at, created_at, updated_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, 'bench', jsonb_build_object('category', 'known'), 'resolved', 1, 1, at, at, at, at
    FROM numbered
),
fired AS (
    INSERT INTO harkara.escalation_steps
        (tenant_id, escalation_id, repeat_number, level, tier, fired_at, recipients, reached_count)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, 0, 1, 1, at, ARRAY[recipient_id], 1
    FROM numbered
)
INSERT INTO harkara.escalation_notifications
    (tenant_id, notification_id, escalation_id, repeat_number, level, tier, recipient_id)
SELECT '01936f00-0000-7000-8000-00000000beac', id, id, 0, 1, 1, recipient_id
FROM numbered
