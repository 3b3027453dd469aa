WITH
-- What the batch came to, one row for each attempt.
given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::boolean[], $13::integer[], $14::integer[], $15::uuid[], $16::text[], $17::jsonb[]
    ) AS g (
        tenant_id, delivery_id, attempt_id, attempt_number, state, reason, detail, outcome, error_code,
        error_detail, provider_message_id, counted, wait_seconds, due_seconds, event_id, event_type, event_detail)
),
-- Fenced by the attempt's number: a worker that lost its lease changes nothing.
-- That a mail was sent is news even to a delivery whose lease ended meanwhile, as long as nobody has claimed it since.
updated AS (
    UPDATE harkara.deliveries d
    SET state = g.state, reason = g.reason, reason_detail = g.detail,
        uncounted_attempt_count = d.uncounted_attempt_count + CASE WHEN g.counted THEN 0 ELSE 1 END,
        not_before = coalesce(now() + make_interval(secs => g.wait_seconds), d.not_before),
        due_at = now() + make_interval(secs => g.due_seconds),
        provider_message_id = g.provider_message_id,
        sent_at = CASE WHEN g.state = 'sent' THEN now() END,
        finished_at = CASE WHEN g.state IN ('failed', 'expired', 'dead', 'skipped') THEN now() END,
        updated_at = now()
    FROM given g
    WHERE d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id AND d.attempt_count = g.attempt_number
      AND (d.state = 'sending' OR (d.state = 'unknown' AND g.state = 'sent'))
    RETURNING d.tenant_id, d.delivery_id, d.notification_id
),
-- The attempt's own end is kept in any case: it happened.
closed AS (
    UPDATE harkara.attempts a
    SET outcome = g.outcome, error_code = g.error_code, error_detail = g.error_detail,
        provider_message_id = g.provider_message_id, finished_at = now()
    FROM given g
    WHERE a.tenant_id = g.tenant_id AND a.attempt_id = g.attempt_id
      -- Attempts are kept by month: this spares a look into the old ones.
      AND a.started_at > now() - interval '2 days'
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT u.tenant_id, g.event_id, u.notification_id, g.event_type, g.event_detail
    FROM updated u
    JOIN given g USING (tenant_id, delivery_id)
    WHERE g.event_type IS NOT NULL
    RETURNING tenant_id, event_id, detail_type, detail, created_at
)
-- What was recorded, and every event of these notifications that is not on the bus yet.
SELECT u.delivery_id AS "delivery_id?", NULL::uuid AS "tenant_id?", NULL::uuid AS "event_id?",
       NULL::text AS "detail_type?", NULL::jsonb AS "detail?", NULL::timestamptz AS "created_at?: jiff_sqlx::Timestamp"
FROM updated u
UNION ALL
SELECT NULL, t.tenant_id, t.event_id, t.detail_type, t.detail, t.created_at FROM told t
UNION ALL
SELECT NULL, e.tenant_id, e.event_id, e.detail_type, e.detail, e.created_at
FROM harkara.events e
WHERE (e.tenant_id, e.notification_id) IN (SELECT u.tenant_id, u.notification_id FROM updated u)
