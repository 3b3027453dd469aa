WITH
-- What was decided about each taken delivery.
given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::boolean[], $7::uuid[], $8::text[]
    ) AS g (tenant_id, delivery_id, state, reason, due_seconds, published, event_id, event_type)
),
updated AS (
    UPDATE harkara.deliveries d
    SET state = g.state,
        reason = g.reason,
        reason_detail = CASE WHEN g.reason IS NOT NULL THEN d.reason_detail END,
        due_at = harkara.now() + make_interval(secs => g.due_seconds),
        publish_count = CASE WHEN g.published THEN d.publish_count + 1 ELSE d.publish_count END,
        finished_at = CASE
            WHEN g.state IN ('canceled', 'expired', 'failed', 'dead') THEN coalesce(d.finished_at, harkara.now())
            WHEN g.state IN ('queued', 'unknown') THEN NULL
            ELSE d.finished_at
        END,
        updated_at = harkara.now()
    FROM given g
    WHERE d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id
    RETURNING d AS whole, d.tenant_id, d.delivery_id, d.notification_id, d.state, d.reason, d.attempt_count,
              g.event_id, g.event_type
),
-- Whoever listens learns of what happened without an attempt, too.
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT u.tenant_id, u.event_id, u.notification_id, u.event_type,
           harkara.describe_delivery(u.event_id, u.whole, u.state, u.reason)
    FROM updated u
    WHERE u.event_type IS NOT NULL
)
-- The attempt of an ended lease never reported; what it did, nobody knows.
UPDATE harkara.attempts a
SET outcome = 'unknown', finished_at = harkara.now(), error_code = 'LeaseExpired'
FROM updated u
WHERE u.state = 'unknown' AND a.tenant_id = u.tenant_id AND a.delivery_id = u.delivery_id
  AND a.attempt_number = u.attempt_count AND a.finished_at IS NULL
