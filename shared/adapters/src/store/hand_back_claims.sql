WITH
-- Claims whose answer was lost may stand all the same; the attempt's own id finds them.
-- Nothing was sent for them, so that they need not be taken for unknown when their lease ends.
unanswered AS (
    UPDATE harkara.attempts a
    SET outcome = 'not_sent', finished_at = harkara.now(), error_code = 'ClaimUnanswered'
    FROM unnest($1::uuid[], $2::uuid[]) AS g (tenant_id, attempt_id)
    WHERE a.tenant_id = g.tenant_id AND a.attempt_id = g.attempt_id AND a.finished_at IS NULL
      -- Attempts are kept by month: this spares a look into the old ones.
      AND a.started_at > harkara.now() - interval '2 days'
    RETURNING a.tenant_id, a.delivery_id, a.attempt_number
),
given_back AS (
    DELETE FROM harkara.send_slots s
    USING unanswered u
    WHERE s.tenant_id = u.tenant_id AND s.delivery_id = u.delivery_id AND NOT s.is_confirmed
),
-- What was withdrawn meanwhile is not tried again.
updated AS (
    UPDATE harkara.deliveries d
    SET state = harkara.state_after(d.withdrawn_at, 'queued', 'not_sent'),
        reason = CASE WHEN d.withdrawn_at IS NOT NULL THEN 'canceled_by_caller' END,
        uncounted_attempt_count = d.uncounted_attempt_count + 1,
        due_at = CASE WHEN d.withdrawn_at IS NULL THEN harkara.now() END,
        finished_at = CASE WHEN d.withdrawn_at IS NOT NULL THEN harkara.now() END,
        updated_at = harkara.now()
    FROM unanswered u
    WHERE d.tenant_id = u.tenant_id AND d.delivery_id = u.delivery_id AND d.attempt_count = u.attempt_number
      AND d.state = 'sending'
    RETURNING d AS whole, d.tenant_id, d.notification_id, d.state, d.reason, gen_random_uuid() AS event_id
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT u.tenant_id, u.event_id, u.notification_id, 'delivery.canceled',
           harkara.describe_delivery(u.event_id, u.whole, u.state, u.reason)
    FROM updated u
    WHERE u.state = 'canceled'
)
SELECT count(*) AS "count!" FROM updated
