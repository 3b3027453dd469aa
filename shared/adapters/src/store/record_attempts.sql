WITH
-- What the batch came to, one row for each attempt.
given AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::boolean[], $13::integer[], $14::integer[], $15::uuid[], $16::text[], $17::jsonb[],
        $18::text[], $19::text[], $20::jsonb[], $21::bytea[], $22::text[], $23::timestamptz[]
    ) AS g (
        tenant_id, delivery_id, attempt_id, attempt_number, state, reason, detail, outcome, error_code,
        error_detail, provider_message_id, counted, wait_seconds, due_seconds, event_id, event_type, event_detail,
        identity_key, breaker_key, decision, content_hash, cadence, period_end)
),
-- What waits for a cadence waits for a digest, where its category or its tenant names one. Files cannot leave with it,
-- and what reaches nobody is not to reach somebody with it: these go by themselves, and so does what goes to a bare address.
collected AS (
    SELECT g.tenant_id, g.delivery_id, n.recipient_id, d.channel, k.category_key, g.cadence, g.period_end,
           least(g.period_end + make_interval(secs => $24::integer), n.expires_at) AS due_at,
           g.period_end + make_interval(secs => $24::integer) AS not_before
    FROM given g
    JOIN harkara.deliveries d USING (tenant_id, delivery_id)
    JOIN harkara.notifications n USING (tenant_id, notification_id)
    JOIN harkara.categories c USING (tenant_id, category_key)
    LEFT JOIN harkara.tenant_settings s USING (tenant_id)
    JOIN harkara.categories k
        ON k.tenant_id = g.tenant_id AND k.category_key = coalesce(c.digest_category, s.digest_category) AND k.class = 'digest'
    WHERE g.period_end IS NOT NULL AND n.recipient_id IS NOT NULL AND NOT n.sandbox
      AND n.attachments = '{}' AND n.calendar IS NULL
),
-- Fenced by the attempt's number: a worker that lost its lease changes nothing.
-- That a mail was sent is news even to a delivery whose lease ended meanwhile, as long as nobody has claimed it since.
-- What was withdrawn meanwhile is not tried again; only the row as it is now says that.
updated AS (
    UPDATE harkara.deliveries d
    SET state = harkara.state_after(d.withdrawn_at, g.state, g.outcome),
        reason = CASE harkara.state_after(d.withdrawn_at, g.state, g.outcome)
            WHEN g.state THEN g.reason WHEN 'canceled' THEN 'canceled_by_caller' ELSE 'outcome_unknown' END,
        reason_detail = CASE harkara.state_after(d.withdrawn_at, g.state, g.outcome) WHEN g.state THEN g.detail ELSE d.reason_detail END,
        uncounted_attempt_count = d.uncounted_attempt_count + CASE WHEN g.counted THEN 0 ELSE 1 END,
        not_before = coalesce(w.not_before, harkara.now() + make_interval(secs => g.wait_seconds), d.not_before),
        due_at = CASE harkara.state_after(d.withdrawn_at, g.state, g.outcome)
            WHEN g.state THEN coalesce(w.due_at, harkara.now() + make_interval(secs => g.due_seconds))
            WHEN 'unknown' THEN harkara.now() + make_interval(secs => d.reconcile_window_seconds)
        END,
        provider_message_id = g.provider_message_id,
        decision = g.decision,
        sent_at = CASE WHEN g.state = 'sent' THEN harkara.now() END,
        finished_at = CASE
            WHEN harkara.state_after(d.withdrawn_at, g.state, g.outcome) IN ('failed', 'expired', 'dead', 'skipped', 'canceled')
            THEN harkara.now()
        END,
        updated_at = harkara.now()
    FROM given g
    LEFT JOIN collected w USING (tenant_id, delivery_id)
    WHERE d.tenant_id = g.tenant_id AND d.delivery_id = g.delivery_id AND d.attempt_count = g.attempt_number
      AND (d.state = 'sending' OR (d.state = 'unknown' AND g.state = 'sent'))
    RETURNING d AS whole, d.tenant_id, d.delivery_id, d.notification_id, d.state, d.reason, d.state <> g.state AS was_withdrawn
),
entered AS (
    INSERT INTO harkara.digest_entries AS e (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at)
    SELECT w.tenant_id, w.delivery_id, w.recipient_id, w.channel, w.category_key, w.cadence, w.period_end
    FROM collected w
    JOIN updated u USING (tenant_id, delivery_id)
    WHERE NOT u.was_withdrawn
    -- It was decided about anew, or the digest that it was in did not leave.
    ON CONFLICT (tenant_id, delivery_id) DO UPDATE
        SET category_key = excluded.category_key, cadence = excluded.cadence, due_at = excluded.due_at,
            digest_notification_id = NULL, decided_at = harkara.now()
),
-- The attempt's own end is kept in any case: it happened.
closed AS (
    UPDATE harkara.attempts a
    SET outcome = g.outcome, error_code = g.error_code, error_detail = g.error_detail,
        provider_message_id = coalesce(g.provider_message_id, a.provider_message_id), content_hash = g.content_hash,
        finished_at = harkara.now()
    FROM given g
    WHERE a.tenant_id = g.tenant_id AND a.attempt_id = g.attempt_id
      -- Attempts are kept by month: this spares a look into the old ones.
      AND a.started_at > harkara.now() - interval '2 days'
    RETURNING g.outcome, g.reason, g.wait_seconds, g.identity_key, g.breaker_key, a.started_at
),
-- What surely was not sent takes no place from what is sent to the same recipient. A slot that an earlier attempt confirmed
-- stays.
given_back AS (
    DELETE FROM harkara.send_slots s
    USING updated u
    JOIN given g USING (tenant_id, delivery_id)
    WHERE s.tenant_id = u.tenant_id AND s.delivery_id = u.delivery_id AND NOT s.is_confirmed
      AND g.outcome NOT IN ('sent', 'unknown')
),
-- What was sent, or may have been, counts, whatever has become of the delivery meanwhile.
confirmed AS (
    UPDATE harkara.send_slots s
    SET is_confirmed = true
    FROM given g
    WHERE s.tenant_id = g.tenant_id AND s.delivery_id = g.delivery_id AND NOT s.is_confirmed
      AND g.outcome IN ('sent', 'unknown')
),
-- A refusal of the account or the sender opens its breaker. What was on its way meanwhile changes nothing more;
-- an attempt that began after the last refusal was the probe, and each that fails doubles the wait.
broken AS (
    INSERT INTO harkara.breakers AS b (tenant_id, breaker_key, reason, opened_at, retry_at)
    SELECT DISTINCT ON (c.breaker_key) '00000000-0000-0000-0000-000000000000'::uuid, c.breaker_key, c.reason,
           c.started_at, harkara.now() + make_interval(secs => c.wait_seconds)
    FROM closed c
    WHERE c.breaker_key IS NOT NULL
    ORDER BY c.breaker_key, c.started_at DESC
    ON CONFLICT (tenant_id, breaker_key) DO UPDATE
        SET reason = excluded.reason, failed_at = harkara.now(), failure_count = b.failure_count + 1, held_count = 0,
            retry_at = harkara.now() + least((excluded.retry_at - harkara.now()) * 2 ^ least(b.failure_count, 6), interval '1 hour')
        WHERE excluded.opened_at > b.failed_at
    RETURNING b.*
),
-- A mail that went through, and was begun after the last refusal, closes it.
mended AS (
    DELETE FROM harkara.breakers b
    USING closed c
    WHERE c.outcome = 'sent' AND b.tenant_id = '00000000-0000-0000-0000-000000000000'
      AND b.breaker_key IN ('account', c.identity_key) AND c.started_at > b.failed_at
    RETURNING b.*
),
-- The provider wants fewer: nothing goes for about a second more than what a claim may send ahead.
slowed AS (
    UPDATE harkara.send_pace s
    SET next_send_at = least(greatest(s.next_send_at, harkara.now() + interval '2 seconds') + interval '1 second', harkara.now() + interval '10 seconds')
    WHERE s.tenant_id = '00000000-0000-0000-0000-000000000000'
      AND EXISTS (SELECT FROM closed c WHERE c.outcome = 'throttled')
      -- After the breakers, as claims lock them.
      AND (SELECT count(*) FROM broken) >= 0
),
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT u.tenant_id, g.event_id, u.notification_id, g.event_type, g.event_detail
    FROM updated u
    JOIN given g USING (tenant_id, delivery_id)
    WHERE g.event_type IS NOT NULL AND NOT u.was_withdrawn
    UNION ALL
    SELECT w.tenant_id, w.event_id, w.notification_id, 'delivery.' || w.state,
           harkara.describe_delivery(w.event_id, w.whole, w.state, w.reason)
    FROM (SELECT gen_random_uuid() AS event_id, u.* FROM updated u WHERE u.was_withdrawn) w
    UNION ALL
    SELECT b.tenant_id, b.event_id, '00000000-0000-0000-0000-000000000000', b.detail_type,
           jsonb_build_object(
               'event_id', 'evt_' || replace(b.event_id::text, '-', ''), 'tenant_id', b.tenant_id,
               'breaker', b.breaker_key, 'reason', b.reason, 'failure_count', b.failure_count, 'retry_at', b.retry_at)
    FROM (
        SELECT gen_random_uuid() AS event_id, 'breaker.opened' AS detail_type, * FROM broken
        UNION ALL
        SELECT gen_random_uuid(), 'breaker.closed', * FROM mended
    ) b
    RETURNING tenant_id, event_id, detail_type, detail, created_at
)
-- What was recorded as it was given, and every event of these notifications that is not on the bus yet.
SELECT u.delivery_id AS "delivery_id?", NULL::uuid AS "tenant_id?", NULL::uuid AS "event_id?",
       NULL::text AS "detail_type?", NULL::jsonb AS "detail?", NULL::timestamptz AS "created_at?: jiff_sqlx::Timestamp"
FROM updated u
WHERE NOT u.was_withdrawn
UNION ALL
SELECT NULL, t.tenant_id, t.event_id, t.detail_type, t.detail, t.created_at FROM told t
UNION ALL
SELECT NULL, e.tenant_id, e.event_id, e.detail_type, e.detail, e.created_at
FROM harkara.events e
WHERE (e.tenant_id, e.notification_id) IN (SELECT u.tenant_id, u.notification_id FROM updated u)
