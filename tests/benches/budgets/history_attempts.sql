-- The one attempt of each old delivery.
INSERT INTO harkara.attempts
    (tenant_id, attempt_id, delivery_id, attempt_number, started_at, finished_at, outcome, provider_message_id)
SELECT '01936f00-0000-7000-8000-00000000beac', lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid, 1,
       past.at, past.at, 'sent', 'message-' || n
FROM generate_series($1::bigint, $2::bigint - 1) n
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
