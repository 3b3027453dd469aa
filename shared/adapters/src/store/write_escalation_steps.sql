-- What becomes of escalations whose next step was due: one row of $2 for each.
WITH written AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($2) AS w (
        escalation_id uuid, state text, reason text, acknowledged_by text, next_step_at timestamptz, has_fallback boolean,
        step jsonb)
),
fired AS MATERIALIZED (
    SELECT w.escalation_id, s.* FROM written w
    CROSS JOIN LATERAL jsonb_to_record(w.step) AS s (
        repeat_number integer, level integer, tier integer, recipients text[], reached_count integer, reason text, note text,
        links_expire_at timestamptz, notifications jsonb)
    WHERE w.step IS NOT NULL
),
steps AS (
    INSERT INTO harkara.escalation_steps
        (tenant_id, escalation_id, repeat_number, level, tier, recipients, reached_count, reason, note)
    SELECT $1, f.escalation_id, f.repeat_number, f.level, f.tier, f.recipients, f.reached_count, f.reason, f.note FROM fired f
),
notified AS (
    INSERT INTO harkara.escalation_notifications
        (tenant_id, notification_id, escalation_id, repeat_number, level, tier, recipient_id, links_expire_at)
    SELECT $1, n.notification_id, f.escalation_id, f.repeat_number, f.level, f.tier, n.recipient_id, f.links_expire_at
    FROM fired f
    CROSS JOIN LATERAL jsonb_to_recordset(f.notifications) AS n (notification_id uuid, recipient_id text)
)
UPDATE harkara.escalations e
SET state = w.state, reason = w.reason, next_step_at = w.next_step_at, was_due_at = NULL, has_fallback = w.has_fallback,
    acknowledged_by = w.acknowledged_by,
    acknowledged_at = CASE WHEN w.state = 'acknowledged' THEN harkara.now() END,
    finished_at = CASE WHEN w.state IN ('exhausted', 'canceled') THEN harkara.now() END,
    repeat_number = coalesce(f.repeat_number, e.repeat_number),
    level = coalesce(f.level, e.level),
    tier = coalesce(f.tier, e.tier),
    -- The first tier of a step begins its time.
    level_fired_at = CASE WHEN f.tier = 1 THEN harkara.now() ELSE e.level_fired_at END,
    updated_at = harkara.now()
FROM written w
LEFT JOIN fired f ON f.escalation_id = w.escalation_id
WHERE e.tenant_id = $1 AND e.escalation_id = w.escalation_id
