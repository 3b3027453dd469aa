WITH members AS (
    -- Of a debounce the message says all there is to say.
    SELECT m.notification_id, m.position::bigint AS place
    FROM harkara.collections c
    JOIN harkara.collection_members m ON m.tenant_id = c.tenant_id AND m.collection_id = c.collection_id
    WHERE c.tenant_id = $1 AND c.notification_id = $2 AND c.kind = 'batch'
      AND EXISTS (SELECT FROM harkara.deliveries d
                  WHERE d.tenant_id = $1 AND d.notification_id = m.notification_id AND d.reason = 'left_in_batch')
    UNION ALL
    SELECT d.notification_id, row_number() OVER (ORDER BY e.created_at, e.delivery_id)
    FROM harkara.digest_entries e
    JOIN harkara.deliveries d ON d.tenant_id = e.tenant_id AND d.delivery_id = e.delivery_id
    WHERE e.tenant_id = $1 AND e.digest_notification_id = $2
),
shown AS (
    SELECT m.notification_id, m.place FROM members m ORDER BY m.place, m.notification_id OFFSET $4 LIMIT $5
)
SELECT n.notification_id, n.category_key, k.name AS category_name,
       n.created_at AS "accepted_at: jiff_sqlx::Timestamp", n.data, n.subject, n.text_body, n.html_body,
       v.subject AS "template_subject?", v.text_body AS "template_text?", v.html_body AS "template_html?",
       (SELECT count(*) FROM members) AS "member_count!"
FROM shown s
JOIN harkara.notifications n ON n.tenant_id = $1 AND n.notification_id = s.notification_id
JOIN harkara.categories k ON k.tenant_id = $1 AND k.category_key = n.category_key
JOIN harkara.tenants t ON t.tenant_id = $1
-- The best locale for the reader's language, as a claim chooses it.
LEFT JOIN LATERAL (
    SELECT tv.subject, tv.text_body, tv.html_body FROM harkara.template_versions tv
    JOIN harkara.templates te USING (tenant_id, template_key)
    WHERE tv.tenant_id = $1 AND tv.template_key = n.template_key AND tv.channel = 'email'
      AND tv.version = coalesce(te.published_version, tv.version)
    ORDER BY array_position(
                 ARRAY[$3, split_part($3, '-', 1), t.locale, split_part(t.locale, '-', 1), 'en'], tv.locale),
             tv.locale, tv.version DESC
    LIMIT 1
) v ON true
ORDER BY s.place, s.notification_id
