-- Rounds through these recipients, and nobody else, who have chosen a hundred times of the day; all have ended at once, as
-- after a day without a run.
WITH of_the_rounds AS (
    UPDATE harkara.recipients
    SET roles = CASE WHEN substr(recipient_id, 2)::bigint BETWEEN $1::bigint AND $2::bigint - 1
                     THEN '{round}'::text[] ELSE '{}' END
    WHERE tenant_id = '01936f00-0000-7000-8000-00000000beac' AND recipient_id ~ '^r[0-9]+$'
    RETURNING subject_id, roles, time '00:00' + substr(recipient_id, 2)::bigint % 100 * interval '14 minutes' AS digest_time
),
chosen AS (
    INSERT INTO harkara.preferences (tenant_id, subject_id, category_key, channel, digest_time)
    SELECT '01936f00-0000-7000-8000-00000000beac', subject_id, '*', '*', digest_time
    FROM of_the_rounds WHERE roles <> '{}'
)
INSERT INTO harkara.digest_rounds (tenant_id, category_key, time_zone, basis, due_at)
SELECT DISTINCT '01936f00-0000-7000-8000-00000000beac'::uuid, 'rhythm', concat('Asia/Kolkata ', digest_time, ' -'), 'bench',
       now() - interval '1 minute'
FROM of_the_rounds WHERE roles <> '{}'
