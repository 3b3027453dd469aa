WITH
-- What the events made of each attempt, each delivery and each address.
attempts_given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[])
        AS g (tenant_id, attempt_id, started_at, feedback, provider_message_id)
),
deliveries_given AS (
    SELECT * FROM unnest($6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[])
        AS g (tenant_id, delivery_id, state, reason, detail, provider_message_id, event_id, event_type)
),
addresses_given AS (
    SELECT tenant_id, lower(address) AS address, is_sound, soft_bounces, reason
    FROM unnest($14::uuid[], $15::text[], $16::boolean[], $17::integer[], $18::text[])
        AS g (tenant_id, address, is_sound, soft_bounces, reason)
),
-- An attempt that was never recorded has its end now: whatever was said of its mail, the provider had taken it.
kept AS (
    UPDATE harkara.attempts a
    SET feedback = g.feedback, feedback_at = harkara.now(), outcome = coalesce(a.outcome, 'sent'),
        finished_at = coalesce(a.finished_at, harkara.now()),
        provider_message_id = coalesce(a.provider_message_id, g.provider_message_id)
    FROM attempts_given g
    WHERE a.tenant_id = g.tenant_id AND a.attempt_id = g.attempt_id AND a.started_at = g.started_at
),
-- Nothing more is to be done for them, whatever they waited for.
moved AS (
    UPDATE harkara.deliveries d
    SET state = g.state, reason = g.reason, reason_detail = CASE WHEN g.reason IS NOT NULL THEN g.detail END,
        provider_message_id = coalesce(g.provider_message_id, d.provider_message_id),
        due_at = NULL, slot_at = NULL, publish_count = 0,
        sent_at = CASE WHEN g.state <> 'failed' THEN coalesce(d.sent_at, harkara.now()) END,
        finished_at = CASE WHEN g.state <> 'sent' THEN harkara.now() END,
        updated_at = harkara.now()
    FROM deliveries_given g
    WHERE d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id
    RETURNING d AS whole, d.tenant_id, d.notification_id, d.state, d.reason, g.event_id, g.event_type
),
-- The address takes mail: the soft bounces before that count no more, nor does a suppression that they led to.
forgotten AS (
    DELETE FROM harkara.soft_bounces b
    USING addresses_given g
    WHERE g.is_sound AND g.soft_bounces = 0 AND b.tenant_id = g.tenant_id AND b.address = g.address
),
lifted AS (
    DELETE FROM harkara.suppressions s
    USING addresses_given g
    WHERE g.is_sound AND g.reason IS NULL AND s.tenant_id = g.tenant_id AND s.address = g.address
      AND s.reason = 'soft_bounces' AND s.source = 'feedback'
),
counted AS (
    INSERT INTO harkara.soft_bounces AS b (tenant_id, address, bounce_count)
    SELECT g.tenant_id, g.address, g.soft_bounces FROM addresses_given g WHERE g.soft_bounces > 0
    ON CONFLICT (tenant_id, address) DO UPDATE
        SET updated_at = harkara.now(),
            bounce_count = excluded.bounce_count + CASE
                WHEN (SELECT g.is_sound FROM addresses_given g
                      WHERE g.tenant_id = excluded.tenant_id AND g.address = excluded.address) THEN 0
                ELSE b.bounce_count
            END
    RETURNING b.tenant_id, b.address, b.bounce_count
),
-- In the order of the locks that claims take, so that nobody waits in a circle. What was suppressed for soft bounces, which
-- a delivery lifts, stays suppressed when a hard bounce or a complaint follows.
suppressed AS (
    INSERT INTO harkara.suppressions AS s (tenant_id, address, reason, source)
    SELECT w.tenant_id, w.address, w.reason, 'feedback'
    FROM (
        SELECT DISTINCT ON (u.tenant_id, u.address) u.*
        FROM (
            SELECT g.tenant_id, g.address, g.reason FROM addresses_given g WHERE g.reason IS NOT NULL
            UNION ALL
            SELECT c.tenant_id, c.address, 'soft_bounces' FROM counted c WHERE c.bounce_count >= $19::integer
        ) u
        ORDER BY u.tenant_id, u.address, u.reason = 'soft_bounces', u.reason
    ) w
    ORDER BY harkara.address_lock(w.address), w.tenant_id
    ON CONFLICT (tenant_id, address) DO UPDATE
        SET reason = excluded.reason
        WHERE s.reason = 'soft_bounces' AND s.source = 'feedback' AND excluded.reason <> 'soft_bounces'
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT m.tenant_id, m.event_id, m.notification_id, m.event_type,
           harkara.describe_delivery(m.event_id, m.whole, m.state, m.reason)
    FROM moved m
    WHERE m.event_type IS NOT NULL
    RETURNING tenant_id, event_id, detail_type, detail
)
SELECT tenant_id AS "tenant_id!", event_id AS "event_id!", detail_type AS "detail_type!", detail AS "detail!" FROM told
