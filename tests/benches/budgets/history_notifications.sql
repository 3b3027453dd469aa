-- Old notifications, a second apart, the newest an hour old.
INSERT INTO harkara.notifications
    (tenant_id, notification_id, category_key, email, name, subject, text_body, html_body, send_at, created_at)
SELECT '01936f00-0000-7000-8000-00000000beac', lpad(to_hex(n), 32, '0')::uuid, 'bench', 'r' || n || '@example.org',
       'Asha Rao', 'The hall is open', 'Come at six.', '<p>Come at six.</p>', past.at, past.at
FROM generate_series($1::bigint, $2::bigint - 1) n
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '1 second' AS at) past
