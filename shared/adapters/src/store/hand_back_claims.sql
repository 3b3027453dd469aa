WITH
-- Claims whose answer was lost may stand all the same; the attempt's own id finds them.
-- Nothing was sent for them, so that they need not be taken for unknown when their lease ends.
unanswered AS (
    UPDATE harkara.attempts a
    SET outcome = 'not_sent', finished_at = harkara.now(), error_code = 'ClaimUnanswered'
    FROM unnest($1::uuid[], $2::uuid[]) AS g (tenant_id, attempt_id)
    WHERE a.tenant_id = g.tenant_id AND a.attempt_id = g.attempt_id AND a.finished_at IS NULL
      -- Attempts are kept by month: this spares a look into the old ones.
      AND a.started_at > harkara.now() - interval '2 days'
    RETURNING a.tenant_id, a.delivery_id, a.attempt_number
),
given_back AS (
    DELETE FROM harkara.send_slots s
    USING unanswered u
    WHERE s.tenant_id = u.tenant_id AND s.delivery_id = u.delivery_id AND NOT s.is_confirmed
)
UPDATE harkara.deliveries d
SET state = 'queued', uncounted_attempt_count = d.uncounted_attempt_count + 1, due_at = harkara.now(), updated_at = harkara.now()
FROM unanswered u
WHERE d.tenant_id = u.tenant_id AND d.delivery_id = u.delivery_id AND d.attempt_count = u.attempt_number
  AND d.state = 'sending'
