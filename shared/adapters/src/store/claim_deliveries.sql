WITH
-- What the batch of messages asks for; each delivery once.
asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS a (tenant_id, delivery_id, attempt_id)
),
-- What may be attempted now. A row that another worker holds is that worker's: it is passed over, not waited for.
ready AS (
    SELECT d.tenant_id, d.delivery_id, d.slot_at, a.attempt_id, n.sandbox,
           coalesce(n.email, r.email) AS address, coalesce(lower(t.from_address), 'default') AS identity
    FROM harkara.deliveries d
    JOIN asked a USING (tenant_id, delivery_id)
    JOIN harkara.notifications n USING (tenant_id, notification_id)
    JOIN harkara.tenants t USING (tenant_id)
    LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
    WHERE d.state IN ('queued', 'held')
      AND d.not_before <= now()
      AND d.attempt_count - d.uncounted_attempt_count < d.max_attempts
    ORDER BY d.tenant_id, d.delivery_id
    FOR UPDATE OF d SKIP LOCKED
),
-- Suppression, breakers and pace say which of them may go.
admitted AS MATERIALIZED (
    SELECT v.*
    FROM (
        SELECT array_agg(delivery_id) AS deliveries, array_agg(tenant_id) AS tenants, array_agg(address) AS addresses,
               array_agg(identity) AS identities, array_agg(sandbox) AS sandboxes, array_agg(slot_at) AS slots
        FROM ready
    ) r
    CROSS JOIN LATERAL harkara.admit_sends(
        r.deliveries, r.tenants, r.addresses, r.identities, r.sandboxes, r.slots) v
),
-- The claim: the attempt is counted before anything is done, so that a crash leaves evidence.
-- What may not go is written with it. A short wait keeps its message; after a long one the dispatcher publishes.
decided AS (
    UPDATE harkara.deliveries d
    SET state = CASE v.verdict WHEN 'claim' THEN 'sending' WHEN 'skip' THEN 'skipped' WHEN 'hold' THEN 'held' ELSE 'queued' END,
        reason = CASE v.verdict WHEN 'skip' THEN 'address_suppressed' WHEN 'hold' THEN v.reason END,
        reason_detail = NULL,
        attempt_count = d.attempt_count + CASE v.verdict WHEN 'claim' THEN 1 ELSE 0 END,
        not_before = coalesce(v.until, d.not_before),
        due_at = CASE v.verdict
            WHEN 'claim' THEN now() + make_interval(secs => $4::integer)
            WHEN 'hold' THEN v.until
            WHEN 'pace' THEN v.until + make_interval(secs => CASE WHEN v.until <= now() + make_interval(secs => $5::integer) THEN $6::integer ELSE 0 END)
        END,
        slot_at = CASE v.verdict WHEN 'pace' THEN v.slot_at END,
        finished_at = CASE v.verdict WHEN 'skip' THEN now() END,
        publish_count = 0, updated_at = now()
    FROM ready r
    JOIN admitted v USING (delivery_id)
    WHERE d.tenant_id = r.tenant_id AND d.delivery_id = r.delivery_id
    RETURNING d.*, d AS whole, r.attempt_id, v.verdict
),
-- The content as it is now; the best version for the recipient's language.
content AS (
    SELECT c.tenant_id, c.delivery_id, c.notification_id, c.channel, c.attempt_count, c.uncounted_attempt_count,
           c.max_attempts, c.attempt_id,
           n.category_key, n.recipient_id, n.subject, n.text_body, n.html_body, n.data, n.metadata, n.sandbox,
           n.expires_at <= now() AS expired,
           coalesce(n.email, r.email) AS email, coalesce(n.name, r.name) AS name,
           coalesce(n.locale, r.locale, t.locale) AS locale, coalesce(n.time_zone, r.time_zone, t.time_zone) AS time_zone,
           c.unknown_policy, c.reconcile_window_seconds, t.from_address, t.from_name,
           n.template_key, v.locale AS template_locale, v.version AS template_version,
           v.subject AS template_subject, v.text_body AS template_text, v.html_body AS template_html
    FROM decided c
    JOIN harkara.notifications n USING (tenant_id, notification_id)
    JOIN harkara.tenants t USING (tenant_id)
    LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
    LEFT JOIN LATERAL (
        SELECT tv.* FROM harkara.template_versions tv
        WHERE tv.tenant_id = n.tenant_id AND tv.template_key = n.template_key AND tv.channel = c.channel
        ORDER BY array_position(
                     ARRAY[coalesce(n.locale, r.locale, t.locale), split_part(coalesce(n.locale, r.locale, t.locale), '-', 1),
                           t.locale, split_part(t.locale, '-', 1), 'en'], tv.locale),
                 tv.locale, tv.version DESC
        LIMIT 1
    ) v ON true
    WHERE c.verdict = 'claim'
),
-- One attempt for each claim.
opened AS (
    INSERT INTO harkara.attempts
        (tenant_id, attempt_id, delivery_id, attempt_number, template_key, template_locale, template_version)
    SELECT tenant_id, attempt_id, delivery_id, attempt_count, template_key, template_locale, template_version
    FROM content
),
-- The id that was meant for an attempt names the event of the delivery that gets none.
told AS (
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT s.tenant_id, s.attempt_id, s.notification_id, 'delivery.skipped',
           harkara.describe_delivery(s.attempt_id, s.whole, s.state, s.reason)
    FROM decided s
    WHERE s.verdict = 'skip'
)
-- An answer for everything asked: the state is the one before this statement, NULL where there is no such delivery.
SELECT
    a.tenant_id AS "tenant_id!",
    a.delivery_id AS "delivery_id!",
    d.state AS "state?",
    v.verdict AS "verdict?",
    greatest(0, ceil(extract(epoch FROM coalesce(v.not_before, d.not_before) - now())))::integer AS "wait_seconds?",
    c.attempt_id AS "attempt_id?", c.notification_id AS "notification_id?", c.channel AS "channel?",
    c.attempt_count AS "attempt_count?", c.uncounted_attempt_count AS "uncounted_attempt_count?",
    c.max_attempts AS "max_attempts?", c.unknown_policy AS "unknown_policy?",
    c.reconcile_window_seconds AS "reconcile_window_seconds?",
    c.expired AS "expired?", c.sandbox AS "sandbox?",
    c.category_key AS "category_key?", c.recipient_id AS "recipient_id?", c.email AS "email?", c.name AS "name?",
    c.locale AS "locale?", c.time_zone AS "time_zone?",
    c.subject AS "subject?", c.text_body AS "text_body?", c.html_body AS "html_body?",
    c.template_key AS "template_key?",
    c.template_subject AS "template_subject?", c.template_text AS "template_text?", c.template_html AS "template_html?",
    c.data AS "data?", c.metadata AS "metadata?", c.from_address AS "from_address?", c.from_name AS "from_name?"
FROM asked a
LEFT JOIN harkara.deliveries d USING (tenant_id, delivery_id)
LEFT JOIN decided v USING (tenant_id, delivery_id)
LEFT JOIN content c USING (tenant_id, delivery_id)
