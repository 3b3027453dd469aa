WITH closed AS (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::integer[])
        AS c (collection_id, outcome, reason, notification_id, absorbed_count)
),
ended AS (
    UPDATE harkara.collections c
    SET closed_at = harkara.now(), due_at = NULL, outcome = x.outcome, notification_id = x.notification_id,
        absorbed_count = x.absorbed_count
    FROM closed x
    WHERE c.tenant_id = $1 AND c.collection_id = x.collection_id
)
UPDATE harkara.deliveries d
SET state = CASE x.outcome WHEN 'message' THEN 'absorbed' ELSE d.state END,
    reason = CASE x.outcome WHEN 'message' THEN x.reason ELSE d.reason END,
    reason_detail = NULL,
    not_before = CASE x.outcome WHEN 'message' THEN d.not_before ELSE least(d.not_before, harkara.now()) END,
    due_at = CASE x.outcome WHEN 'message' THEN NULL ELSE harkara.now() END,
    finished_at = CASE x.outcome WHEN 'message' THEN harkara.now() END,
    updated_at = harkara.now()
FROM closed x
JOIN harkara.collection_members m ON m.tenant_id = $1 AND m.collection_id = x.collection_id
-- What has left already, because the close came late, stays as it is; nobody but the close moves what is scheduled.
WHERE d.tenant_id = $1 AND d.notification_id = m.notification_id
  AND (d.state = 'scheduled' OR (x.outcome = 'message' AND d.state IN ('queued', 'held')))
