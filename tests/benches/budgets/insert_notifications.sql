-- The rows of one request of 100 notifications to inline addresses. Keep in step with harkara.accept_notifications.
WITH
-- The notifications, with ids that grow as the function's do.
accepted AS (
    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, email, name, subject, text_body, html_body, data, send_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', uuidv7(), 'bench', 'r' || n || '@example.org', 'Asha Rao',
           'The hall is open', 'Come at six.', '<p>Come at six.</p>', jsonb_build_object('hall', n), now()
    FROM generate_series(1, 100) n
    RETURNING tenant_id, notification_id, category_key
),
-- One delivery each, published at once.
queued AS (
    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at, publish_count)
    SELECT tenant_id, uuidv7(), notification_id, 'email', 'queued', 3, now(), now() + interval '1 hour', 1
    FROM accepted
)
-- And the event of each.
INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
SELECT tenant_id, uuidv7(), notification_id, 'notification.accepted',
       jsonb_build_object('notification_id', notification_id, 'category', category_key)
FROM accepted;
