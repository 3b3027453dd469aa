-- Old notifications, a second apart, the newest an hour old, each with its delivery and one attempt.
WITH numbered AS (
    SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id, past.at
    FROM generate_series($1::bigint, $2::bigint - 1) n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
),
notified AS (
    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, email, name, subject, text_body, html_body, send_at, created_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, 'bench', 'r' || n || '@example.org', 'Asha Rao', 'The hall is open', 'Come at six.',
           '<p>Come at six.</p>', at, at
    FROM numbered
),
delivered AS (
    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, attempt_count, max_attempts, not_before, publish_count,
         provider_message_id, sent_at, created_at, updated_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', id, id, 'email', 'sent', 1, 3, at, 1, 'message-' || n, at, at, at
    FROM numbered
)
INSERT INTO harkara.attempts
    (tenant_id, attempt_id, delivery_id, attempt_number, started_at, finished_at, outcome, provider_message_id)
SELECT '01936f00-0000-7000-8000-00000000beac', id, id, 1, at, at, 'sent', 'message-' || n
FROM numbered
