WITH waiting AS (
    -- Until the transaction ends, nobody claims or cancels what is counted here.
    SELECT d.tenant_id, d.delivery_id, d.notification_id
    FROM harkara.collection_members m
    JOIN harkara.deliveries d ON d.tenant_id = m.tenant_id AND d.notification_id = m.notification_id
    WHERE m.tenant_id = $1 AND m.collection_id = ANY ($2) AND d.state IN ('scheduled', 'queued', 'held')
    ORDER BY d.delivery_id
    FOR UPDATE OF d
),
late AS (
    UPDATE harkara.deliveries d
    SET state = 'expired', reason = 'expiry_passed', reason_detail = NULL, due_at = NULL, finished_at = harkara.now(),
        updated_at = harkara.now()
    FROM waiting w
    JOIN harkara.notifications n ON n.tenant_id = w.tenant_id AND n.notification_id = w.notification_id
    WHERE d.tenant_id = w.tenant_id AND d.delivery_id = w.delivery_id AND n.expires_at <= harkara.now()
    RETURNING d AS whole, d.notification_id, d.state, d.reason, gen_random_uuid() AS event_id
)
INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
SELECT $1, l.event_id, l.notification_id, 'delivery.expired',
       harkara.describe_delivery(l.event_id, l.whole, l.state, l.reason)
FROM late l
