WITH
-- Whom a batch of events speaks of; each attempt once.
asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::integer[]) AS a (tenant_id, notification_id, attempt_number)
),
-- The attempts that there are, by the tenant and the notification that the tags name together.
found AS MATERIALIZED (
    SELECT a.tenant_id, a.notification_id, a.attempt_number, d.delivery_id, t.attempt_id, t.started_at
    FROM asked a
    JOIN harkara.deliveries d USING (tenant_id, notification_id)
    JOIN harkara.attempts t
        ON t.tenant_id = d.tenant_id AND t.delivery_id = d.delivery_id AND t.attempt_number = a.attempt_number
       -- Attempts are kept by month: this spares a look into those before the delivery.
       AND t.started_at >= d.created_at
    WHERE d.channel = 'email'
),
-- As they are at this moment. What another worker writes just now is passed over and asked for again:
-- whoever waits for nobody is in nobody's circle.
taken AS (
    SELECT f.tenant_id, f.notification_id, f.attempt_number, f.delivery_id, f.attempt_id, f.started_at,
           d.state, d.reason, d.attempt_count, t.feedback, t.outcome, t.provider_message_id
    FROM found f
    JOIN harkara.deliveries d ON d.tenant_id = f.tenant_id AND d.delivery_id = f.delivery_id
    JOIN harkara.attempts t ON t.tenant_id = f.tenant_id AND t.attempt_id = f.attempt_id AND t.started_at = f.started_at
    FOR UPDATE OF d, t SKIP LOCKED
)
SELECT
    a.tenant_id AS "tenant_id!", a.notification_id AS "notification_id!", a.attempt_number AS "attempt_number!",
    f.attempt_id IS NOT NULL AS "is_there!",
    k.delivery_id AS "delivery_id?", k.attempt_id AS "attempt_id?", k.started_at AS "started_at?: jiff_sqlx::Timestamp",
    k.state AS "state?", k.reason AS "reason?", k.attempt_count AS "attempt_count?", k.feedback AS "feedback?",
    k.outcome AS "outcome?", k.provider_message_id AS "provider_message_id?",
    coalesce(n.email, r.email) AS "address?"
FROM asked a
LEFT JOIN found f USING (tenant_id, notification_id, attempt_number)
LEFT JOIN taken k USING (tenant_id, notification_id, attempt_number)
LEFT JOIN harkara.notifications n ON n.tenant_id = k.tenant_id AND n.notification_id = k.notification_id
LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
