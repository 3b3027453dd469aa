-- Open escalations that have no next step, or whose next step is $2 seconds late, put off or not; up to $1 of either reason.
-- A look into an index for each active tenant, and into two that are empty where all is well: this is asked each minute.
(SELECT e.tenant_id AS "tenant_id!", 'no_next_step' AS "reason!", harkara.print_id('esc', e.escalation_id) AS "key!"
 FROM harkara.escalations e
 WHERE e.state = 'open' AND e.next_step_at IS NULL
 LIMIT $1)
UNION ALL
(SELECT t.tenant_id, 'late', harkara.print_id('esc', s.escalation_id)
 FROM harkara.tenants t
 CROSS JOIN LATERAL (
     (SELECT e.escalation_id FROM harkara.escalations e
      WHERE e.tenant_id = t.tenant_id AND e.next_step_at < harkara.now() - make_interval(secs => $2)
      ORDER BY e.next_step_at LIMIT $1)
     UNION ALL
     (SELECT e.escalation_id FROM harkara.escalations e
      WHERE e.tenant_id = t.tenant_id AND e.next_step_at >= harkara.now() - make_interval(secs => $2)
        AND e.was_due_at < harkara.now() - make_interval(secs => $2)
      ORDER BY e.was_due_at LIMIT $1)
 ) s
 WHERE t.state = 'active'
 LIMIT $1)
