-- Deliveries whose message has to be published.
WITH made AS (
    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, email, name, subject, text_body, send_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', harkara.new_id(), 'bench', 'r' || n || '@example.org', 'Asha Rao',
           'The hall is open', 'Come at six.', now()
    FROM generate_series($1::bigint, $2::bigint - 1) n
    RETURNING tenant_id, notification_id
)
INSERT INTO harkara.deliveries
    (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at)
SELECT tenant_id, harkara.new_id(), notification_id, 'email', 'queued', 3, now(), now()
FROM made
