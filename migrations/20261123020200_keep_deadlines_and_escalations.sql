-- Retention of deadlines that were completed and of escalations that have ended.
-- Beside running code, writers of the two tables wait while each is read once for its index.
SET LOCAL ROLE harkara_owner;

-- What has ended, by the category whose class says how long it is kept; '' where it has none.
CREATE INDEX deadlines_by_end ON harkara.deadlines (tenant_id, coalesce(category_key, ''), completed_at)
WHERE completed_at IS NOT NULL;
CREATE INDEX escalations_by_end ON harkara.escalations (tenant_id, coalesce(definition ->> 'category', ''), updated_at)
WHERE state <> 'open';

-- Deleting an escalation asks for them.
CREATE INDEX action_link_uses_by_escalation ON harkara.action_link_uses (tenant_id, escalation_id);

CREATE POLICY owner_keeps_retention ON harkara.escalation_steps TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.escalation_notifications TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.escalation_acknowledgements TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_keeps_retention ON harkara.action_link_uses TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));

-- Deletes up to so many escalations that are not open and have not changed for long enough, with what they fired and who
-- answered, and a tenth as many deadlines that were completed long enough ago, with their rungs, of which each may have two
-- thousand. What nobody has completed is overdue, and stays; what either became is kept as notifications are.
-- SECURITY DEFINER, with no say in what: nobody else may delete history.
CREATE FUNCTION harkara.keep_ended(p_tenant uuid, p_limit integer)
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
GRANT EXECUTE ON FUNCTION harkara.keep_ended TO harkara_worker;

RESET ROLE;
