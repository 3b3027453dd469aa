-- Known recipients.
INSERT INTO harkara.recipients (tenant_id, recipient_id, email, name, time_zone)
SELECT '01936f00-0000-7000-8000-00000000beac', 'r' || n, 'r' || n || '@example.org', 'Asha Rao', 'Asia/Kolkata'
FROM generate_series($1::bigint, $2::bigint - 1) n
ON CONFLICT (tenant_id, recipient_id) DO NOTHING
