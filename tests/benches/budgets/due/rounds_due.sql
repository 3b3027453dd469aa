-- A round through these recipients, and nobody else, whose period has ended.
WITH of_the_round AS (
    UPDATE harkara.recipients
    SET roles = CASE WHEN substr(recipient_id, 2)::bigint BETWEEN $1::bigint AND $2::bigint - 1
                     THEN '{round}'::text[] ELSE '{}' END
    WHERE tenant_id = '01936f00-0000-7000-8000-00000000beac' AND recipient_id ~ '^r[0-9]+$'
)
INSERT INTO harkara.digest_rounds (tenant_id, category_key, time_zone, basis, due_at)
VALUES ('01936f00-0000-7000-8000-00000000beac', 'rhythm', 'Asia/Kolkata', 'bench', now() - interval '1 minute')
ON CONFLICT (tenant_id, category_key, time_zone) DO UPDATE SET due_at = excluded.due_at, after_recipient = NULL
