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

-- Before which time what has ended is not kept any more, for each of a tenant's categories and for what has none.
CREATE FUNCTION harkara.list_cutoffs(p_tenant uuid) RETURNS TABLE (category_key text, cutoff timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT kept.category_key,
           harkara.now() - make_interval(days => coalesce(
               (s.retention_days_by_class ->> kept.class)::integer, s.retention_days, 365))
    FROM (
        SELECT c.category_key, c.class FROM harkara.categories c WHERE c.tenant_id = p_tenant
        UNION ALL SELECT '', NULL
    ) kept
    LEFT JOIN harkara.tenant_settings s ON s.tenant_id = p_tenant
    ORDER BY random()
$$;

-- Deletes up to so many deadlines that were completed long enough ago, with their rungs, and answers with how many; each may
-- have two thousand rungs. What nobody has completed is overdue, and stays. SECURITY DEFINER, with no say in what.
CREATE FUNCTION harkara.keep_deadlines(p_tenant uuid, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept   record;
    most   CONSTANT integer := least(greatest(p_limit, 1), 1000);
    chosen text[] := '{}';
BEGIN
    PERFORM harkara.set_tenant(p_tenant, 'maintenance');
    FOR kept IN SELECT * FROM harkara.list_cutoffs(p_tenant) LOOP
        EXIT WHEN cardinality(chosen) >= most;
        chosen := chosen || ARRAY(
            SELECT d.deadline_key FROM harkara.deadlines d
            WHERE d.tenant_id = p_tenant AND coalesce(d.category_key, '') = kept.category_key AND d.completed_at < kept.cutoff
            ORDER BY d.completed_at LIMIT most - cardinality(chosen)
            FOR UPDATE SKIP LOCKED);
    END LOOP;
    DELETE FROM harkara.rungs r WHERE r.tenant_id = p_tenant AND r.deadline_key = ANY (chosen);
    DELETE FROM harkara.deadlines d WHERE d.tenant_id = p_tenant AND d.deadline_key = ANY (chosen);
    RETURN cardinality(chosen);
END
$$;

-- Deletes up to so many escalations that are not open and have not changed for long enough, with what they fired and who
-- answered, and answers with how many. What they became is kept as notifications are. SECURITY DEFINER, with no say in what.
CREATE FUNCTION harkara.keep_escalations(p_tenant uuid, p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept   record;
    most   CONSTANT integer := least(greatest(p_limit, 1), 1000);
    chosen uuid[] := '{}';
BEGIN
    PERFORM harkara.set_tenant(p_tenant, 'maintenance');
    FOR kept IN SELECT * FROM harkara.list_cutoffs(p_tenant) LOOP
        EXIT WHEN cardinality(chosen) >= most;
        chosen := chosen || ARRAY(
            SELECT e.escalation_id FROM harkara.escalations e
            WHERE e.tenant_id = p_tenant AND coalesce(e.definition ->> 'category', '') = kept.category_key
              AND e.state <> 'open' AND e.updated_at < kept.cutoff
            ORDER BY e.updated_at LIMIT most - cardinality(chosen)
            FOR UPDATE SKIP LOCKED);
    END LOOP;
    DELETE FROM harkara.action_link_uses u WHERE u.tenant_id = p_tenant AND u.escalation_id = ANY (chosen);
    DELETE FROM harkara.escalation_acknowledgements a WHERE a.tenant_id = p_tenant AND a.escalation_id = ANY (chosen);
    DELETE FROM harkara.escalation_notifications n WHERE n.tenant_id = p_tenant AND n.escalation_id = ANY (chosen);
    DELETE FROM harkara.escalation_steps s WHERE s.tenant_id = p_tenant AND s.escalation_id = ANY (chosen);
    DELETE FROM harkara.escalations e WHERE e.tenant_id = p_tenant AND e.escalation_id = ANY (chosen);
    RETURN cardinality(chosen);
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.keep_deadlines, harkara.keep_escalations TO harkara_worker;

RESET ROLE;
