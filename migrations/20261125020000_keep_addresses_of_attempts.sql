-- An attempt keeps where it went: the address and the name beside it, as they were when it was begun.
-- Safe beside running code: the columns may be empty, which is all that older code writes, and adding them rewrites no row.
-- Whoever writes or reads attempts waits for the moment that this takes.
SET LOCAL ROLE harkara_owner;

-- Written by the claim, so that an attempt whose end nobody recorded has them, too. Named as in tenants.from_address.
ALTER TABLE harkara.attempts
    -- NULL: there was no address, or it was erased, or the attempt is from before this was kept.
    ADD COLUMN to_address text,
    ADD COLUMN to_name text,
    -- Of rows that are there nothing need be looked at: the columns are new.
    ADD CONSTRAINT name_stands_beside_its_address CHECK (to_name IS NULL OR to_address IS NOT NULL) NOT VALID;

-- The audit knows nothing of them, not even a digest: what is hidden by one costs more than the rest of a claim's row. That
-- an address was changed stands in the audit of its recipient; here it never is.
CALL harkara.audit_table_anew('harkara.attempts', 'attempt_id', 'error_detail', 'to_address,to_name');

-- Where the attempts for a recipient went is forgotten with the recipient.
-- A delivery's lock is taken first, as claims and records take it, and in one order. Whoever claims or records at this moment
-- is waited for, and what was begun is then seen; nobody can begin anything more with an address read before.
CREATE FUNCTION harkara.erase_recipient_attempts(p_recipient text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    tenant CONSTANT uuid := harkara.current_tenant();
BEGIN
    PERFORM FROM harkara.deliveries d
    JOIN harkara.notifications n USING (tenant_id, notification_id)
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
      AND d.state IN ('scheduled', 'queued', 'sending', 'held', 'unknown')
    ORDER BY d.delivery_id FOR UPDATE OF d;
    UPDATE harkara.attempts a SET to_address = NULL, to_name = NULL
    FROM harkara.notifications n
    JOIN harkara.deliveries d ON d.tenant_id = tenant AND d.notification_id = n.notification_id
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
      AND a.tenant_id = tenant AND a.delivery_id = d.delivery_id
      AND a.to_address IS NOT NULL;
END
$$;

-- After the deadlines of the recipient, which whoever reminds locks before deliveries, and before anything else of it.
DO $$
DECLARE
    definition CONSTANT text := pg_get_functiondef('harkara.erase_recipient(text)'::regprocedure);
    withdrawn  CONSTANT text := E'    WITH withdrawn AS (\n';
BEGIN
    IF position(withdrawn IN definition) = 0 THEN
        RAISE EXCEPTION 'erase_recipient is not as it was';
    END IF;
    EXECUTE replace(definition, withdrawn, E'    PERFORM harkara.erase_recipient_attempts(p_recipient);\n' || withdrawn);
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
