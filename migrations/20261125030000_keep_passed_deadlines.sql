-- Retention of deadlines that have passed and that nobody completes, once nothing of what they do is to come; and indexes by
-- which deadlines are listed.
-- Beside running code, writers of deadlines wait while the table is read for its indexes. Code that does not know of this
-- calls the same function for the same answer.
SET LOCAL ROLE harkara_owner;

-- What has passed, by the category whose class says how long it is kept; '' where it has none.
CREATE INDEX deadlines_passed ON harkara.deadlines (tenant_id, coalesce(category_key, ''), due_at)
WHERE completed_at IS NULL AND escalates_at IS NULL;
-- Those of a span of time, and those that lie ahead or behind.
CREATE INDEX deadlines_by_due ON harkara.deadlines (tenant_id, due_at);

-- Deletes up to so many escalations that are not open and have not changed for long enough, with what they fired and who
-- answered, and a tenth as many deadlines that have ended long enough ago, with their rungs, of which each may have two
-- thousand.
-- A deadline ends when it is completed. One that nobody completes ends when it has passed, the last of its rungs has been
-- decided, and what began by it is not open any more; before all of that, also where it only waits for its tenant to be
-- active again, it stays. It stays as well while anything that it became is still to be sent, so that whoever completes it
-- can withdraw that. What either became is kept as notifications are.
-- SECURITY DEFINER, with no say in what: nobody else may delete history.
CREATE OR REPLACE FUNCTION harkara.keep_ended(p_tenant uuid, p_limit integer)
RETURNS TABLE (deadline_count integer, escalation_count integer, leaves_more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most           CONSTANT integer := least(greatest(p_limit, 1), 1000);
    most_deadlines CONSTANT integer := greatest(most / 10, 1);
    deadlines      text[];
    escalations    uuid[];
BEGIN
    PERFORM harkara.set_tenant(p_tenant, 'maintenance');
    deadlines := ARRAY(
        SELECT ended.deadline_key
        FROM harkara.list_cutoffs(p_tenant) c
        CROSS JOIN LATERAL (
            SELECT d.deadline_key FROM harkara.deadlines d
            WHERE d.tenant_id = p_tenant AND coalesce(d.category_key, '') = c.category_key AND d.completed_at < c.cutoff
            ORDER BY d.completed_at LIMIT most_deadlines
            FOR UPDATE SKIP LOCKED
        ) ended
        LIMIT most_deadlines);
    -- Whoever puts one again, for a time ahead, comes before, and it is not past any more, or after, and makes it anew.
    deadlines := deadlines || ARRAY(
        SELECT ended.deadline_key
        FROM harkara.list_cutoffs(p_tenant) c
        CROSS JOIN LATERAL (
            SELECT d.deadline_key FROM harkara.deadlines d
            WHERE d.tenant_id = p_tenant AND coalesce(d.category_key, '') = c.category_key
              AND d.completed_at IS NULL AND d.escalates_at IS NULL AND d.due_at < c.cutoff
              AND NOT EXISTS (
                  SELECT FROM harkara.rungs r
                  WHERE r.tenant_id = p_tenant AND r.deadline_key = d.deadline_key
                    AND (r.decided_at IS NULL OR r.decided_at >= c.cutoff))
              AND NOT EXISTS (
                  SELECT FROM harkara.escalations e
                  WHERE e.tenant_id = p_tenant AND e.escalation_id = d.escalation_id
                    AND (e.state = 'open' OR e.updated_at >= c.cutoff))
              AND NOT EXISTS (
                  SELECT FROM harkara.rungs r
                  JOIN harkara.deliveries o ON o.tenant_id = p_tenant AND o.notification_id = r.notification_id
                  WHERE r.tenant_id = p_tenant AND r.deadline_key = d.deadline_key AND o.due_at IS NOT NULL)
            ORDER BY d.due_at LIMIT most_deadlines
            FOR UPDATE SKIP LOCKED
        ) ended
        LIMIT greatest(most_deadlines - cardinality(deadlines), 0));
    DELETE FROM harkara.rungs r WHERE r.tenant_id = p_tenant AND r.deadline_key = ANY (deadlines);
    DELETE FROM harkara.deadlines d WHERE d.tenant_id = p_tenant AND d.deadline_key = ANY (deadlines);

    escalations := ARRAY(
        SELECT ended.escalation_id
        FROM harkara.list_cutoffs(p_tenant) c
        CROSS JOIN LATERAL (
            SELECT e.escalation_id FROM harkara.escalations e
            WHERE e.tenant_id = p_tenant AND coalesce(e.definition ->> 'category', '') = c.category_key
              AND e.state <> 'open' AND e.updated_at < c.cutoff
            ORDER BY e.updated_at LIMIT most
            FOR UPDATE SKIP LOCKED
        ) ended
        LIMIT most);
    DELETE FROM harkara.action_link_uses u WHERE u.tenant_id = p_tenant AND u.escalation_id = ANY (escalations);
    DELETE FROM harkara.escalation_acknowledgements a WHERE a.tenant_id = p_tenant AND a.escalation_id = ANY (escalations);
    DELETE FROM harkara.escalation_notifications n WHERE n.tenant_id = p_tenant AND n.escalation_id = ANY (escalations);
    DELETE FROM harkara.escalation_steps s WHERE s.tenant_id = p_tenant AND s.escalation_id = ANY (escalations);
    DELETE FROM harkara.escalations e WHERE e.tenant_id = p_tenant AND e.escalation_id = ANY (escalations);
    RETURN QUERY SELECT cardinality(deadlines), cardinality(escalations),
                        cardinality(deadlines) >= most_deadlines OR cardinality(escalations) >= most;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
