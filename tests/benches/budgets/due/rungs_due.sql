-- Deadlines of one recipient each, an hour ahead, with a reminder an hour before them.
WITH numbered AS MATERIALIZED (
    SELECT n, 'due-' || harkara.new_id() AS deadline_key, now() + interval '1 hour' AS due_at
    FROM generate_series($1::bigint, $2::bigint - 1) n
),
kept AS (
    INSERT INTO harkara.deadlines (tenant_id, deadline_key, category_key, recipients, due_at, rungs, when_past)
    SELECT '01936f00-0000-7000-8000-00000000beac', deadline_key, 'known', ARRAY['r' || n], due_at, '[{"before": "PT1H"}]', 'skip'
    FROM numbered
)
INSERT INTO harkara.rungs
    (tenant_id, deadline_key, recipient_id, rung_key, due_at, state, fire_at, look_at)
SELECT '01936f00-0000-7000-8000-00000000beac', deadline_key, 'r' || n, '-PT1H', due_at, 'planned', now(), now()
FROM numbered
