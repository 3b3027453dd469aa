WITH told AS (
    -- The members that count, with the channels that they wait for.
    SELECT m.collection_id, m.notification_id, m.position,
           array_agg(d.channel) FILTER (WHERE d.state IN ('scheduled', 'queued', 'held')) AS channels
    FROM harkara.collection_members m
    JOIN harkara.deliveries d ON d.tenant_id = m.tenant_id AND d.notification_id = m.notification_id
    WHERE m.tenant_id = $1 AND m.collection_id = ANY ($2) AND (d.state IN ('scheduled', 'queued', 'held') OR d.reason = 'replaced_by_later')
    GROUP BY m.collection_id, m.notification_id, m.position
),
-- Once: joined in, it would be made anew for each member.
whole AS MATERIALIZED (
    SELECT t.collection_id,
           (array_agg(t.notification_id ORDER BY t.position))[1] AS first_id,
           (array_agg(t.notification_id ORDER BY t.position DESC) FILTER (WHERE t.channels IS NOT NULL))[1] AS last_id,
           -- In time for as long as any of them; one without an end has all time.
           CASE WHEN bool_or(n.expires_at IS NULL) FILTER (WHERE t.channels IS NOT NULL) THEN NULL
                ELSE max(n.expires_at) FILTER (WHERE t.channels IS NOT NULL) END AS expires_at,
           min(array_position('{critical, high, normal, low}', n.priority)) FILTER (WHERE t.channels IS NOT NULL) AS urgency
    FROM told t
    JOIN harkara.notifications n ON n.tenant_id = $1 AND n.notification_id = t.notification_id
    GROUP BY t.collection_id
),
-- Every channel that one of them waits for, because the message stands for all: by the channels of one alone, what another
-- was to say by a channel of its own would never be said there. In a debounce only the last one waits.
awaited AS (
    SELECT t.collection_id, array_agg(DISTINCT a.channel ORDER BY a.channel) AS channels
    FROM told t CROSS JOIN LATERAL unnest(t.channels) AS a (channel)
    GROUP BY t.collection_id
)
SELECT c.collection_id, n.category_key, n.recipient_id, n.email, n.phone, n.name, n.locale, n.time_zone, n.template_key,
       n.subject, n.text_body, n.html_body, n.data, n.metadata, n.sandbox,
       ('{critical, high, normal, low}'::text[])[w.urgency] AS "priority!",
       w.expires_at AS "expires_at: jiff_sqlx::Timestamp", a.channels AS "channels!", f.data AS "first_data",
       coalesce(i.items, '[]') AS "items!"
FROM harkara.collections c
JOIN whole w ON w.collection_id = c.collection_id
JOIN harkara.notifications n ON n.tenant_id = c.tenant_id AND n.notification_id = w.last_id
JOIN harkara.notifications f ON f.tenant_id = c.tenant_id AND f.notification_id = w.first_id
JOIN awaited a ON a.collection_id = c.collection_id
CROSS JOIN LATERAL (
    SELECT jsonb_agg(listed.data ORDER BY listed.position) AS items
    FROM (
        SELECT s.data, s.position, sum(octet_length(s.data::text)) OVER (ORDER BY s.position) AS bytes
        FROM (
            SELECT m.data, t.position
            FROM told t
            JOIN harkara.notifications m ON m.tenant_id = $1 AND m.notification_id = t.notification_id
            WHERE t.collection_id = c.collection_id AND c.kind = 'batch'
            ORDER BY t.position
            LIMIT $3
        ) s
    ) listed
    WHERE listed.bytes <= $4
) i
WHERE c.tenant_id = $1 AND c.collection_id = ANY ($2)
