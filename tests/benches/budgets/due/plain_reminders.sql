-- What a reminder of 500 rungs leaves, by one statement of nobody's: the limit of the machine. Keep in step with
-- harkara.accept_notifications and store::rungs.
WITH taken AS MATERIALIZED (
    SELECT r.tenant_id, r.deadline_key, r.recipient_id, r.rung_key, r.due_at, harkara.new_id() AS notification_id
    FROM harkara.rungs r
    WHERE r.tenant_id = '01936f00-0000-7000-8000-00000000beac' AND r.look_at <= harkara.now()
    ORDER BY r.look_at
    LIMIT 500
),
accepted AS (
    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, recipient_id, template_key, data, metadata, send_at)
    SELECT tenant_id, notification_id, 'known', recipient_id, 'bench',
           jsonb_build_object('deadline', deadline_key, 'due_at', due_at),
           jsonb_build_object('deadline', deadline_key, 'rung', rung_key), now()
    FROM taken
),
queued AS (
    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at, publish_count)
    SELECT tenant_id, harkara.new_id(), notification_id, 'email', 'queued', 3, now(), now() + interval '1 hour', 1
    FROM taken
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT tenant_id, harkara.new_id(), notification_id, 'notification.accepted',
           jsonb_build_object('notification_id', notification_id, 'category', 'known')
    FROM taken
)
UPDATE harkara.rungs r
SET state = 'fired', notification_id = t.notification_id, look_at = NULL, decided_at = harkara.now()
FROM taken t
WHERE r.tenant_id = t.tenant_id AND r.deadline_key = t.deadline_key AND r.recipient_id = t.recipient_id
  AND r.rung_key = t.rung_key AND r.due_at = t.due_at
