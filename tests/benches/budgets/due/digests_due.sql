-- A delivery for each of these recipients that waits for a digest whose period has ended: at nine where they are, which is
-- when digests close where nobody says otherwise.
WITH made AS (
    INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, data, send_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', harkara.new_id(), 'known', 'r' || n, 'bench', jsonb_build_object('number', n), now()
    FROM generate_series($1::bigint, $2::bigint - 1) n
    RETURNING notification_id, recipient_id
),
held AS (
    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, reason, max_attempts, not_before, due_at)
    SELECT '01936f00-0000-7000-8000-00000000beac', harkara.new_id(), notification_id, 'email', 'held', 'cadence_not_due', 3, now() + interval '1 day',
           now() + interval '1 day'
    FROM made
    RETURNING delivery_id, notification_id
)
INSERT INTO harkara.digest_entries (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at)
SELECT '01936f00-0000-7000-8000-00000000beac', h.delivery_id, m.recipient_id, 'email', 'digest', 'daily',
       (date_trunc('day', (now() AT TIME ZONE 'Asia/Kolkata') - interval '9 hours') + interval '9 hours') AT TIME ZONE 'Asia/Kolkata'
FROM held h JOIN made m USING (notification_id)
