WITH
given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::integer[], $10::bigint[]
    ) AS g (
        dead_letter_id, event_id, queue_message_id, tenant_id, delivery_id, body, reason, reason_detail, receive_count, sent_at_millis)
),
-- Whose it is: the tenant that the body names if there is one, else the operator; the delivery only if it is that tenant's.
owned AS (
    SELECT g.dead_letter_id, g.event_id, g.queue_message_id, g.body, g.reason, g.reason_detail, g.receive_count,
           to_timestamp(g.sent_at_millis / 1000.0) AS first_sent_at,
           coalesce(t.tenant_id, '00000000-0000-0000-0000-000000000000') AS tenant_id, d.delivery_id, d.notification_id,
           l.dead_letter_id IS NOT NULL AS has_letter
    FROM given g
    LEFT JOIN harkara.tenants t ON t.tenant_id = g.tenant_id
    LEFT JOIN harkara.deliveries d ON d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id
    LEFT JOIN LATERAL (
        SELECT l.dead_letter_id FROM harkara.dead_letters l
        WHERE l.tenant_id = d.tenant_id AND l.delivery_id = d.delivery_id AND l.redriven_at IS NULL
        LIMIT 1
    ) l ON true
),
stored AS (
    INSERT INTO harkara.dead_letters
        (tenant_id, dead_letter_id, queue_message_id, delivery_id, body, reason, reason_detail, receive_count, first_sent_at)
    SELECT tenant_id, dead_letter_id, queue_message_id, delivery_id, body, reason, reason_detail, receive_count, first_sent_at
    FROM owned
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, dead_letter_id
),
-- A dead delivery is buried now, unless the message is of an earlier death, which was redriven since and came again.
-- An open delivery lost a hint only, and the dispatcher goes on with it.
marked AS (
    UPDATE harkara.deliveries d
    SET due_at = CASE WHEN d.state = 'dead' THEN NULL ELSE harkara.now() END, updated_at = harkara.now()
    FROM owned o
    WHERE d.tenant_id = o.tenant_id AND d.delivery_id = o.delivery_id
      AND ((d.state = 'dead' AND (o.has_letter OR o.dead_letter_id IN (SELECT s.dead_letter_id FROM stored s)))
           OR (d.state IN ('queued', 'held') AND d.not_before <= harkara.now()))
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT o.tenant_id, o.event_id, coalesce(o.notification_id, '00000000-0000-0000-0000-000000000000'), 'dead_letter.added',
           jsonb_build_object(
               'dead_letter_id', 'dl_' || replace(o.dead_letter_id::text, '-', ''),
               'tenant_id', o.tenant_id,
               'notification_id', 'ntf_' || replace(o.notification_id::text, '-', ''),
               'delivery_id', 'dlv_' || replace(o.delivery_id::text, '-', ''),
               'reason', o.reason, 'receive_count', o.receive_count, 'event_id', 'evt_' || replace(o.event_id::text, '-', ''))
    FROM owned o
    JOIN stored s USING (tenant_id, dead_letter_id)
    RETURNING tenant_id, event_id, detail_type, detail
)
SELECT tenant_id AS "tenant_id!", event_id AS "event_id!", detail_type AS "detail_type!", detail AS "detail!" FROM told
