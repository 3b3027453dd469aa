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
      AND d.not_before <= harkara.now()
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
            WHEN 'claim' THEN harkara.now() + make_interval(secs => $4::integer)
            WHEN 'hold' THEN v.until
            WHEN 'pace' THEN v.until + make_interval(secs => CASE WHEN v.until <= harkara.now() + make_interval(secs => $5::integer) THEN $6::integer ELSE 0 END)
        END,
        slot_at = CASE v.verdict WHEN 'pace' THEN v.slot_at END,
        decision = CASE v.verdict WHEN 'skip' THEN jsonb_build_array(jsonb_build_object(
            'found', 'suppression', 'suppression', (
                SELECT jsonb_build_object('reason', s.reason, 'source', s.source, 'since', s.created_at)
                FROM harkara.suppressions s
                WHERE s.tenant_id IN (r.tenant_id, '00000000-0000-0000-0000-000000000000') AND s.address = lower(r.address)
                LIMIT 1))) ELSE d.decision END,
        finished_at = CASE v.verdict WHEN 'skip' THEN harkara.now() END,
        publish_count = 0, updated_at = harkara.now()
    FROM ready r
    JOIN admitted v USING (delivery_id)
    WHERE d.tenant_id = r.tenant_id AND d.delivery_id = r.delivery_id
    RETURNING d.*, d AS whole, r.attempt_id, v.verdict
),
-- What was claimed, with everything that it takes to decide about it and to render it; the template by name only,
-- because most workers have it already, and files by their ids, because few mails have any. The best locale for the recipient's language.
content AS (
    SELECT c.tenant_id, c.delivery_id, c.notification_id, c.channel, c.attempt_count, c.uncounted_attempt_count,
           c.max_attempts, c.attempt_id,
           n.category_key, n.recipient_id, n.subject, n.text_body, n.html_body, n.data, n.metadata, n.sandbox,
           n.attachments, n.calendar, n.created_at AS accepted_at, n.priority, n.send_at, n.expires_at, g.due_at AS waits_until,
           coalesce(n.email, r.email) AS email, coalesce(n.name, r.name) AS name,
           coalesce(n.locale, r.locale, t.locale) AS locale, coalesce(n.time_zone, r.time_zone, t.time_zone) AS time_zone,
           coalesce(r.roles, '{}') AS roles, r.attributes,
           coalesce(r.subject_id, harkara.address_subject(t.salt, coalesce(n.email, n.phone))) AS subject_id,
           x.escalation_id, x.links_expire_at,
           c.unknown_policy, c.reconcile_window_seconds, t.name AS tenant_name, t.salt, t.from_address, t.from_name,
           n.template_key, v.locale AS template_locale, v.version AS template_version,
           k.class, k.name AS category_name, k.unmutable_roles, k.quiet_hours_apply, k.consent_purpose,
           k.throttle_limit, k.throttle_window_seconds,
           s.cap_limit, s.cap_window_seconds, s.digest_time, s.digest_weekday,
           -- What is urgent, or mandatory for the recipient, knows neither throttle nor cap: domain::decision.
           l.is_limited AND k.throttle_limit IS NOT NULL AS is_throttled,
           l.is_limited AND k.class IN ('marketing', 'reminder', 'digest') AND s.cap_limit IS NOT NULL AS is_capped
    FROM decided c
    JOIN harkara.notifications n USING (tenant_id, notification_id)
    JOIN harkara.tenants t USING (tenant_id)
    JOIN harkara.categories k USING (tenant_id, category_key)
    LEFT JOIN harkara.tenant_settings s USING (tenant_id)
    LEFT JOIN harkara.escalation_notifications x
        ON x.tenant_id = c.tenant_id AND x.notification_id = c.notification_id AND x.links_expire_at IS NOT NULL
    LEFT JOIN harkara.digest_entries g
        ON g.tenant_id = c.tenant_id AND g.delivery_id = c.delivery_id AND g.digest_notification_id IS NULL
    LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
    LEFT JOIN LATERAL (
        SELECT tv.locale, tv.version FROM harkara.template_versions tv
        JOIN harkara.templates te USING (tenant_id, template_key)
        WHERE tv.tenant_id = n.tenant_id AND tv.template_key = n.template_key AND tv.channel = c.channel
          AND tv.version = coalesce(te.published_version, tv.version)
        ORDER BY array_position(
                     ARRAY[coalesce(n.locale, r.locale, t.locale), split_part(coalesce(n.locale, r.locale, t.locale), '-', 1),
                           t.locale, split_part(t.locale, '-', 1), 'en'], tv.locale),
                 tv.locale, tv.version DESC
        LIMIT 1
    ) v ON true
    CROSS JOIN LATERAL (
        SELECT n.priority <> 'critical' AND k.class <> 'security'
               AND NOT k.unmutable_roles && (coalesce(r.roles, '{}') || '{*}'::text[]) AS is_limited
    ) l
    WHERE c.verdict = 'claim'
),
-- What was sent to the same people lately, where the category or the tenant limits it.
slots AS MATERIALIZED (
    SELECT v.*
    FROM (
        SELECT array_agg(tenant_id) AS tenants, array_agg(delivery_id) AS deliveries, array_agg(subject_id) AS subjects,
               array_agg(category_key) AS categories, array_agg(sandbox) AS sandboxes,
               array_agg(throttle_limit) AS throttles, array_agg(throttle_window_seconds) AS throttle_windows,
               array_agg(CASE WHEN is_capped THEN cap_limit END) AS caps,
               array_agg(CASE WHEN is_capped THEN cap_window_seconds END) AS cap_windows
        FROM content
        WHERE is_throttled OR is_capped
    ) l
    CROSS JOIN LATERAL harkara.take_send_slots(
        l.tenants, l.deliveries, l.subjects, l.categories, l.sandboxes, l.throttles, l.throttle_windows, l.caps,
        l.cap_windows, $4::integer) v
),
-- One attempt for each claim, with where it goes: a crash leaves that, too, and the recipient may move before the next one.
opened AS (
    INSERT INTO harkara.attempts
        (tenant_id, attempt_id, delivery_id, attempt_number, template_key, template_locale, template_version, to_address,
         to_name)
    SELECT tenant_id, attempt_id, delivery_id, attempt_count, template_key, template_locale, template_version, email,
           CASE WHEN email IS NOT NULL THEN name END
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
    greatest(0, ceil(extract(epoch FROM coalesce(v.not_before, d.not_before) - harkara.now())))::integer AS "wait_seconds?",
    c.attempt_id AS "attempt_id?", c.notification_id AS "notification_id?", c.channel AS "channel?",
    c.attempt_count AS "attempt_count?", c.uncounted_attempt_count AS "uncounted_attempt_count?",
    c.max_attempts AS "max_attempts?", c.unknown_policy AS "unknown_policy?",
    c.reconcile_window_seconds AS "reconcile_window_seconds?",
    c.sandbox AS "sandbox?",
    c.category_key AS "category_key?", c.category_name AS "category_name?", c.recipient_id AS "recipient_id?",
    c.subject_id AS "subject_id?", c.email AS "email?", c.name AS "name?", c.roles AS "roles?",
    c.attributes AS "attributes?",
    c.locale AS "locale?", c.time_zone AS "time_zone?",
    c.subject AS "subject?", c.text_body AS "text_body?", c.html_body AS "html_body?",
    c.template_key AS "template_key?", c.template_locale AS "template_locale?", c.template_version AS "template_version?",
    c.data AS "data?", c.metadata AS "metadata?",
    c.attachments AS "attachments?", c.calendar AS "calendar?",
    c.accepted_at AS "accepted_at?: jiff_sqlx::Timestamp",
    c.escalation_id AS "escalation_id?", c.links_expire_at AS "links_expire_at?: jiff_sqlx::Timestamp",
    c.tenant_name AS "tenant_name?", c.salt AS "salt?", c.from_address AS "from_address?", c.from_name AS "from_name?",
    CASE WHEN c.delivery_id IS NOT NULL THEN harkara.now() END AS "now?: jiff_sqlx::Timestamp",
    c.send_at AS "send_at?: jiff_sqlx::Timestamp", c.expires_at AS "expires_at?: jiff_sqlx::Timestamp",
    c.waits_until AS "waits_until?: jiff_sqlx::Timestamp",
    c.class AS "class?", c.priority AS "priority?", c.unmutable_roles AS "unmutable_roles?",
    c.quiet_hours_apply AS "quiet_hours_apply?",
    c.digest_time AS "digest_time?: jiff_sqlx::Time", c.digest_weekday AS "digest_weekday?",
    CASE WHEN c.is_throttled THEN c.throttle_limit END AS "throttle_limit?",
    c.throttle_window_seconds AS "throttle_window_seconds?",
    l.throttle_count AS "throttle_count?", l.throttle_pending AS "throttle_pending?",
    CASE WHEN c.is_capped THEN c.cap_limit END AS "cap_limit?", c.cap_window_seconds AS "cap_window_seconds?",
    l.cap_count AS "cap_count?", l.cap_pending AS "cap_pending?",
    c.consent_purpose AS "consent_purpose?", o.is_granted AS "consent_is_granted?",
    o.said_at AS "consent_said_at?: jiff_sqlx::Timestamp",
    w.wishes AS "wishes?"
FROM asked a
LEFT JOIN harkara.deliveries d USING (tenant_id, delivery_id)
LEFT JOIN decided v USING (tenant_id, delivery_id)
LEFT JOIN content c USING (tenant_id, delivery_id)
LEFT JOIN slots l USING (delivery_id)
-- The newest word about the consent that the category needs.
LEFT JOIN LATERAL (
    SELECT e.is_granted, e.said_at FROM harkara.consents e
    WHERE e.tenant_id = c.tenant_id AND e.subject_id = c.subject_id AND e.purpose = c.consent_purpose
      AND e.channel IN (c.channel, '*')
    ORDER BY e.entry DESC
    LIMIT 1
) o ON c.consent_purpose IS NOT NULL
-- What the recipient and the tenant want.
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'is_tenants', p.subject_id <> c.subject_id, 'category', p.category_key, 'channel', p.channel,
               'is_on', p.is_on, 'cadence', p.cadence, 'quiet_from', p.quiet_from, 'quiet_until', p.quiet_until,
               'digest_time', p.digest_time, 'digest_weekday', p.digest_weekday)) AS wishes
    FROM harkara.preferences p
    WHERE p.tenant_id = c.tenant_id AND p.subject_id IN (c.subject_id, '00000000-0000-0000-0000-000000000000')
      AND p.category_key IN (c.category_key, '*') AND p.channel IN (c.channel, '*')
) w ON c.delivery_id IS NOT NULL
