-- A page of what came through a tenant's door and is no notification, the newest first.
-- Each kind by its own index and from the cursor on, a page of it at most; no condition of the cursor's is an OR, because an
-- index is not entered by one.
WITH refused AS (
    SELECT d.*
    FROM harkara.door_requests d
    WHERE d.tenant_id = $1
      AND d.refused_at IS NOT NULL
      AND coalesce($2::text, 'refused') = 'refused'
      AND (d.created_at, d.request_id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY d.created_at DESC, d.request_id DESC
    LIMIT $5
),
waiting AS (
    SELECT d.*
    FROM harkara.door_requests d
    WHERE d.tenant_id = $1
      AND d.refused_at IS NULL
      AND coalesce($2::text, 'waiting') = 'waiting'
      AND (d.created_at, d.request_id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY d.created_at DESC, d.request_id DESC
    LIMIT $5
)
SELECT d.request_id AS "request_id!",
       d.request ->> 'category' AS category_key,
       d.recipient_id,
       d.errors,
       d.created_at AS "created_at!: jiff_sqlx::Timestamp",
       d.due_at AS "due_at: jiff_sqlx::Timestamp",
       d.refused_at AS "refused_at: jiff_sqlx::Timestamp"
FROM (SELECT * FROM refused UNION ALL SELECT * FROM waiting) d
ORDER BY d.created_at DESC, d.request_id DESC
LIMIT $5
