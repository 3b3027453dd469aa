WITH
-- The digests that leave.
closed AS (
    INSERT INTO harkara.digests
        (tenant_id, notification_id, recipient_id, category_key, channel, period_end_at, is_regular, member_count)
    SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::boolean[], $8::integer[])
),
-- What becomes of each delivery that waited.
given AS (
    SELECT * FROM unnest($9::uuid[], $10::text[], $11::uuid[], $12::timestamptz[], $13::uuid[])
        AS g (delivery_id, fate, notification_id, due_at, event_id)
),
moved AS (
    UPDATE harkara.deliveries d
    SET state = CASE WHEN g.fate IN ('absorbed', 'expired') THEN g.fate ELSE d.state END,
        reason = CASE g.fate WHEN 'absorbed' THEN 'in_digest' WHEN 'expired' THEN 'expiry_passed' ELSE d.reason END,
        not_before = CASE g.fate
            WHEN 'released' THEN harkara.now()
            WHEN 'postponed' THEN g.due_at + make_interval(secs => $14::integer)
            ELSE d.not_before
        END,
        due_at = CASE g.fate
            WHEN 'released' THEN harkara.now()
            WHEN 'postponed' THEN least(g.due_at + make_interval(secs => $14::integer), (
                SELECT n.expires_at FROM harkara.notifications n
                WHERE n.tenant_id = d.tenant_id AND n.notification_id = d.notification_id))
        END,
        finished_at = CASE WHEN g.fate IN ('absorbed', 'expired') THEN harkara.now() END,
        updated_at = harkara.now()
    FROM given g
    WHERE d.tenant_id = $1 AND d.delivery_id = g.delivery_id AND g.fate <> 'gone' AND d.state = 'held'
    RETURNING d AS whole, d.notification_id, d.state, d.reason, g.event_id
),
-- Whoever listens learns of what ended here.
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT $1, m.event_id, m.notification_id, 'delivery.expired',
           harkara.describe_delivery(m.event_id, m.whole, m.state, m.reason)
    FROM moved m
    WHERE m.state = 'expired'
),
kept AS (
    UPDATE harkara.digest_entries e
    SET digest_notification_id = g.notification_id, due_at = coalesce(g.due_at, e.due_at)
    FROM given g
    WHERE e.tenant_id = $1 AND e.delivery_id = g.delivery_id AND g.fate IN ('absorbed', 'postponed')
)
DELETE FROM harkara.digest_entries e
USING given g
WHERE e.tenant_id = $1 AND e.delivery_id = g.delivery_id AND g.fate IN ('gone', 'expired', 'released')
