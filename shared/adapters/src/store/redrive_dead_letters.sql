WITH
-- The dead letters that are meant and whose delivery is still dead; the newest of each delivery. Where the provider told
-- of a mail after all, or somebody has withdrawn it, there is nothing to send again.
meant AS (
    SELECT DISTINCT ON (l.delivery_id) l.tenant_id, l.dead_letter_id, l.delivery_id, n.traceparent
    FROM harkara.dead_letters l
    JOIN harkara.deliveries d ON d.tenant_id = l.tenant_id AND d.delivery_id = l.delivery_id
    JOIN harkara.notifications n ON n.tenant_id = d.tenant_id AND n.notification_id = d.notification_id
    WHERE l.tenant_id = $1
      AND d.state = 'dead' AND d.withdrawn_at IS NULL
      AND NOT EXISTS (SELECT FROM harkara.attempts a
                      WHERE a.tenant_id = l.tenant_id AND a.delivery_id = l.delivery_id AND a.feedback IS NOT NULL
                        -- Attempts are kept by month: this spares a look into those before the delivery.
                        AND a.started_at >= d.created_at)
      AND ($2::uuid[] IS NULL OR l.dead_letter_id = ANY ($2))
      AND ($3::text IS NULL OR n.category_key = $3)
      AND ($4::text IS NULL OR l.reason = $4)
      AND ($5::timestamptz IS NULL OR l.created_at >= $5)
      AND ($6::timestamptz IS NULL OR l.created_at < $6)
    ORDER BY l.delivery_id, l.created_at DESC
    LIMIT $7
),
-- Every attempt so far stops counting, so that there are as many to spend as at the beginning.
queued AS (
    UPDATE harkara.deliveries d
    SET state = 'queued', reason = NULL, reason_detail = NULL, finished_at = NULL,
        uncounted_attempt_count = d.attempt_count, not_before = harkara.now(), due_at = harkara.now() + make_interval(secs => $8::integer),
        publish_count = 1, updated_at = harkara.now()
    FROM meant m
    WHERE d.tenant_id = m.tenant_id AND d.delivery_id = m.delivery_id AND d.state = 'dead' AND d.withdrawn_at IS NULL
    RETURNING d.tenant_id, d.delivery_id
),
marked AS (
    UPDATE harkara.dead_letters l
    SET redriven_at = harkara.now()
    FROM queued q
    WHERE l.tenant_id = q.tenant_id AND l.delivery_id = q.delivery_id AND l.redriven_at IS NULL
)
SELECT m.dead_letter_id AS "dead_letter_id!", m.delivery_id AS "delivery_id!", m.traceparent
FROM meant m
JOIN queued q USING (tenant_id, delivery_id)
