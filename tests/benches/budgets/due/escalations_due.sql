-- Escalations that have just begun; their one step means one recipient.
INSERT INTO harkara.escalations (tenant_id, escalation_id, policy_key, definition, next_step_at)
SELECT '01936f00-0000-7000-8000-00000000beac', harkara.new_id(), 'bench',
       jsonb_build_object('category', 'known',
                          'steps', jsonb_build_array(jsonb_build_object('recipients', jsonb_build_array('r' || n)))), now()
FROM generate_series($1::bigint, $2::bigint - 1) n
