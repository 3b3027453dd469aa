-- Whatever is open and has no next step and no end, up to $1 of each kind, reason and tenant. $2 seconds late is late.
-- A suspended tenant's work stands still, so that none of it is late. What is put off again and again is late by when it was to
-- be: rungs, deadlines and jobs have that beside when they are looked at next, and what is put off otherwise keeps it.
SELECT t.tenant_id AS "tenant_id!", s.kind AS "kind!", s.reason AS "reason!", s.key AS "key!"
FROM harkara.tenants t
CROSS JOIN LATERAL (
    -- Of each of these an index holds what should not be there, and is empty.
    (SELECT 'collection' AS kind, 'no_next_step' AS reason, harkara.print_id('ntf', c.collection_id) AS key
     FROM harkara.collections c
     WHERE c.tenant_id = t.tenant_id AND c.closed_at IS NULL AND c.due_at IS NULL LIMIT $1)
    UNION ALL
    (SELECT 'deadline', 'no_next_step', d.deadline_key FROM harkara.deadlines d
     WHERE d.tenant_id = t.tenant_id AND d.overdue ? 'escalation_policy' AND d.completed_at IS NULL
       AND d.escalates_at IS NULL AND d.escalation_id IS NULL AND d.escalation_note IS NULL LIMIT $1)
    UNION ALL
    (SELECT 'delivery', 'no_next_step', harkara.print_id('dlv', d.delivery_id) FROM harkara.deliveries d
     WHERE d.tenant_id = t.tenant_id AND d.state IN ('scheduled', 'queued', 'sending', 'held', 'unknown')
       AND d.due_at IS NULL LIMIT $1)
    UNION ALL
    -- A tenant has a hundred of them at most.
    (SELECT 'domain_job', 'no_next_step', j.job_key FROM harkara.domain_jobs j
     LEFT JOIN harkara.domain_job_clocks c ON c.tenant_id = j.tenant_id AND c.job_key = j.job_key
     WHERE j.tenant_id = t.tenant_id AND c.look_at IS NULL
       AND (c.job_key IS NULL OR c.next_due_at IS NOT NULL OR c.requested_run_id IS NOT NULL) LIMIT $1)
    UNION ALL
    (SELECT 'door_request', 'no_next_step', harkara.print_id('ntf', d.request_id) FROM harkara.door_requests d
     WHERE d.tenant_id = t.tenant_id AND d.refused_at IS NULL AND d.due_at IS NULL LIMIT $1)
    UNION ALL
    (SELECT 'escalation', 'no_next_step', harkara.print_id('esc', e.escalation_id) FROM harkara.escalations e
     WHERE e.tenant_id = t.tenant_id AND e.state = 'open' AND e.next_step_at IS NULL LIMIT $1)
    UNION ALL
    (SELECT 'rung', 'no_next_step', r.deadline_key || ' ' || r.rung_key FROM harkara.rungs r
     WHERE r.tenant_id = t.tenant_id AND r.state = 'planned' AND r.look_at IS NULL LIMIT $1)
    UNION ALL
    -- The oldest of what is due: one look into each index of due work.
    (SELECT 'collection', 'late', harkara.print_id('ntf', c.collection_id) FROM harkara.collections c
     WHERE c.tenant_id = t.tenant_id AND t.state = 'active' AND c.due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY c.due_at LIMIT $1)
    UNION ALL
    (SELECT 'collection', 'late', harkara.print_id('ntf', c.collection_id) FROM harkara.collections c
     WHERE c.tenant_id = t.tenant_id AND t.state = 'active' AND c.due_at >= harkara.now() - make_interval(secs => $2)
       AND c.was_due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY c.was_due_at LIMIT $1)
    UNION ALL
    (SELECT 'deadline', 'late', d.deadline_key FROM harkara.deadlines d
     WHERE d.tenant_id = t.tenant_id AND t.state = 'active' AND d.escalates_at < harkara.now() + interval '15 minutes'
       AND d.due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY d.escalates_at LIMIT $1)
    UNION ALL
    (SELECT 'delivery', 'late', harkara.print_id('dlv', d.delivery_id) FROM harkara.deliveries d
     WHERE d.tenant_id = t.tenant_id AND t.state = 'active' AND d.due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY d.due_at LIMIT $1)
    UNION ALL
    -- What does not wait any more is found gone when its digest is closed.
    (SELECT 'digest_entry', 'late', harkara.print_id('dlv', e.delivery_id) FROM harkara.digest_entries e
     JOIN harkara.deliveries d ON d.tenant_id = e.tenant_id AND d.delivery_id = e.delivery_id
     WHERE e.tenant_id = t.tenant_id AND t.state = 'active' AND e.digest_notification_id IS NULL
       AND e.due_at > '-infinity' AND e.due_at < harkara.now() - make_interval(secs => $2)
       AND d.state = 'held' AND d.reason = 'cadence_not_due'
     ORDER BY e.due_at LIMIT $1)
    UNION ALL
    -- What was to be decided about anew.
    (SELECT 'digest_entry', 'late', harkara.print_id('dlv', e.delivery_id) FROM harkara.tenant_settings s
     JOIN harkara.digest_entries e ON e.tenant_id = s.tenant_id AND e.decided_at < s.held_review_at
     WHERE s.tenant_id = t.tenant_id AND t.state = 'active' AND e.digest_notification_id IS NULL
       AND s.held_review_at < harkara.now() - make_interval(secs => $2)
     ORDER BY e.decided_at LIMIT $1)
    UNION ALL
    (SELECT 'digest_round', 'late', r.category_key || ' ' || r.time_zone FROM harkara.digest_rounds r
     JOIN harkara.categories c ON c.tenant_id = r.tenant_id AND c.category_key = r.category_key
     WHERE r.tenant_id = t.tenant_id AND t.state = 'active' AND c.digest_cadence IS NOT NULL
       AND r.due_at < harkara.now() - make_interval(secs => $2)
     LIMIT $1)
    UNION ALL
    (SELECT 'domain_job', 'late', c.job_key FROM harkara.domain_job_clocks c
     WHERE c.tenant_id = t.tenant_id AND t.state = 'active'
       AND least(c.next_due_at, c.look_at) < harkara.now() - make_interval(secs => $2) LIMIT $1)
    UNION ALL
    (SELECT 'door_request', 'late', harkara.print_id('ntf', d.request_id) FROM harkara.door_requests d
     WHERE d.tenant_id = t.tenant_id AND t.state = 'active' AND d.due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY d.due_at LIMIT $1)
    UNION ALL
    (SELECT 'door_request', 'late', harkara.print_id('ntf', d.request_id) FROM harkara.door_requests d
     WHERE d.tenant_id = t.tenant_id AND t.state = 'active' AND d.due_at >= harkara.now() - make_interval(secs => $2)
       AND d.was_due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY d.was_due_at LIMIT $1)
    UNION ALL
    (SELECT 'escalation', 'late', harkara.print_id('esc', e.escalation_id) FROM harkara.escalations e
     WHERE e.tenant_id = t.tenant_id AND t.state = 'active' AND e.next_step_at < harkara.now() - make_interval(secs => $2)
     ORDER BY e.next_step_at LIMIT $1)
    UNION ALL
    (SELECT 'escalation', 'late', harkara.print_id('esc', e.escalation_id) FROM harkara.escalations e
     WHERE e.tenant_id = t.tenant_id AND t.state = 'active' AND e.next_step_at >= harkara.now() - make_interval(secs => $2)
       AND e.was_due_at < harkara.now() - make_interval(secs => $2)
     ORDER BY e.was_due_at LIMIT $1)
    UNION ALL
    (SELECT 'rung', 'late', r.deadline_key || ' ' || r.rung_key FROM harkara.rungs r
     WHERE r.tenant_id = t.tenant_id AND t.state = 'active' AND r.look_at < harkara.now() + interval '15 minutes'
       AND least(r.look_at, r.fire_at) < harkara.now() - make_interval(secs => $2)
     ORDER BY r.look_at LIMIT $1)
    UNION ALL
    -- At most one of each job is open.
    (SELECT 'job_run', 'no_end', harkara.print_id('run', r.run_id) FROM harkara.job_runs r
     WHERE r.tenant_id = t.tenant_id AND t.state = 'active' AND r.finished_at IS NULL
       AND r.lease_ends_at < harkara.now() - make_interval(secs => $2) LIMIT $1)
) s
UNION ALL
-- The outbox is one for all tenants, in the order of time.
(SELECT e.tenant_id, 'event', 'late', harkara.print_id('evt', e.event_id) FROM harkara.events e
 WHERE e.created_at < harkara.now() - make_interval(secs => $2)
 ORDER BY e.created_at LIMIT $1)
