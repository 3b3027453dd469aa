WITH
-- Whose digests; the place is the row's name in the answer.
asked AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[])
        WITH ORDINALITY AS a (recipient_id, category_key, channel, place)
),
-- What waits for them and is due: only so much of each, and of all together. What is to be decided about anew is left
-- alone until that has happened.
picked AS (
    SELECT a.place, e.delivery_id, e.due_at, e.cadence, e.decided_at
    FROM asked a
    LEFT JOIN harkara.tenant_settings s ON s.tenant_id = $1
    CROSS JOIN LATERAL (
        SELECT e.delivery_id, e.due_at, e.cadence, e.decided_at
        FROM harkara.digest_entries e
        WHERE e.tenant_id = $1 AND e.recipient_id = a.recipient_id AND e.category_key = a.category_key
          AND e.channel = a.channel AND e.digest_notification_id IS NULL AND e.due_at <= harkara.now()
          AND (e.decided_at < s.held_review_at) IS NOT TRUE
        ORDER BY e.due_at
        LIMIT $5
    ) e
    ORDER BY a.place, e.due_at
    LIMIT $6
),
-- What somebody else has in hand just now is passed over, and goes into the next digest if it still waits then.
locked AS MATERIALIZED (
    SELECT p.place, p.delivery_id, p.due_at, p.cadence, d.notification_id,
           d.state = 'held' AND d.reason = 'cadence_not_due' AS is_waiting
    FROM picked p
    JOIN harkara.deliveries d ON d.tenant_id = $1 AND d.delivery_id = p.delivery_id
    WHERE p.decided_at IS NOT NULL OR d.state <> 'held' OR d.reason <> 'cadence_not_due'
    ORDER BY p.delivery_id
    FOR UPDATE OF d SKIP LOCKED
),
described AS (
    SELECT l.place, l.delivery_id, l.due_at, l.cadence, n.category_key, c.name AS category_name, n.created_at,
           CASE WHEN NOT l.is_waiting THEN 'gone' WHEN n.expires_at <= harkara.now() THEN 'expired' ELSE 'waiting' END AS standing,
           n.data
    FROM locked l
    JOIN harkara.notifications n ON n.tenant_id = $1 AND n.notification_id = l.notification_id
    JOIN harkara.categories c ON c.tenant_id = $1 AND c.category_key = n.category_key
),
-- Room is given by turns to each category of a digest, so that none fills it.
turns AS (
    SELECT d.*, row_number() OVER (PARTITION BY d.place, d.category_key, d.standing ORDER BY d.created_at, d.delivery_id) AS turn
    FROM described d
),
measured AS (
    SELECT t.*, row_number() OVER room AS item_place, sum(octet_length(t.data::text)) OVER room AS item_bytes
    FROM turns t
    WINDOW room AS (PARTITION BY t.place, t.standing ORDER BY t.turn, t.category_key)
)
SELECT m.place AS "place!", m.delivery_id AS "delivery_id!", m.due_at AS "due_at!: jiff_sqlx::Timestamp",
       m.cadence AS "cadence!", m.standing AS "standing!", m.category_key AS "category_key!", m.category_name,
       CASE WHEN m.standing = 'waiting' AND m.item_place <= $7 AND m.item_bytes <= $8 THEN m.data END AS data,
       (SELECT count(*) FROM picked) AS "picked_count!", (SELECT max(p.place) FROM picked p) AS "last_place!"
FROM measured m
ORDER BY m.place, m.created_at, m.delivery_id
