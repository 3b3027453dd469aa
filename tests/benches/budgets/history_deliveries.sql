-- The deliveries of the old notifications, all sent.
INSERT INTO harkara.deliveries
    (tenant_id, delivery_id, notification_id, channel, state, attempt_count, max_attempts, not_before, publish_count,
     provider_message_id, sent_at, created_at, updated_at)
SELECT '01936f00-0000-7000-8000-00000000beac', lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid, 'email',
       'sent', 1, 3, past.at, 1, 'message-' || n, past.at, past.at, past.at
FROM generate_series($1::bigint, $2::bigint - 1) n
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
