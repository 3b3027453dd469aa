-- What left within a message that surely was not sent goes by itself after all: nothing that was collected is lost.
-- Safe beside running code: `may_become` only allows more than before, and what goes again is queued like any other.
SET LOCAL ROLE harkara_owner;

-- The same table as domain::DeliveryState::may_become; a test compares them.
CREATE OR REPLACE FUNCTION harkara.may_become(old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE old_state
    WHEN 'scheduled' THEN new_state IN ('queued', 'held', 'skipped', 'canceled', 'expired', 'absorbed')
    WHEN 'queued'    THEN new_state IN ('sending', 'held', 'skipped', 'canceled', 'expired', 'dead', 'absorbed',
                                        'sent', 'delivered', 'bounced', 'complained', 'failed')
    WHEN 'held'      THEN new_state IN ('queued', 'sending', 'skipped', 'canceled', 'expired', 'dead', 'absorbed',
                                        'sent', 'delivered', 'bounced', 'complained', 'failed')
    WHEN 'sending'   THEN new_state IN ('sent', 'delivered', 'bounced', 'complained', 'queued', 'held', 'unknown',
                                        'skipped', 'expired', 'failed', 'dead')
    WHEN 'unknown'   THEN new_state IN ('sent', 'delivered', 'bounced', 'complained', 'queued', 'failed', 'dead')
    WHEN 'sent'      THEN new_state IN ('delivered', 'bounced', 'complained', 'failed')
    WHEN 'delivered' THEN new_state IN ('bounced', 'complained')
    WHEN 'bounced'   THEN new_state IN ('delivered', 'complained')
    WHEN 'dead'      THEN new_state IN ('queued')
    WHEN 'absorbed'  THEN new_state IN ('queued')
    ELSE false
END;

-- Queues what left within a digest, a batch or a debounce whose message has just ended without being sent: each is decided
-- about by itself. It runs in the transaction that ends the message, so that there is no moment in which either is lost.
-- What a later one of a debounce has replaced stays replaced: the last one stands for it.
CREATE FUNCTION harkara.let_members_go() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE harkara.deliveries d
    SET state = 'queued', reason = NULL, reason_detail = NULL, finished_at = NULL, not_before = harkara.now(),
        due_at = harkara.now(), publish_count = 0, updated_at = harkara.now()
    FROM (
        SELECT e.delivery_id
        FROM harkara.digest_entries e
        WHERE e.tenant_id = NEW.tenant_id AND e.digest_notification_id = NEW.notification_id
        UNION ALL
        -- They are of its category, so that what has skipped it would skip them.
        SELECT o.delivery_id
        FROM harkara.collections c
        JOIN harkara.collection_members m ON m.tenant_id = c.tenant_id AND m.collection_id = c.collection_id
        JOIN harkara.deliveries o ON o.tenant_id = m.tenant_id AND o.notification_id = m.notification_id
        WHERE NEW.state = 'failed' AND c.tenant_id = NEW.tenant_id AND c.notification_id = NEW.notification_id
          AND o.channel = NEW.channel
    ) members
    WHERE d.tenant_id = NEW.tenant_id AND d.delivery_id = members.delivery_id AND d.state = 'absorbed'
      AND d.reason IN ('in_digest', 'left_in_batch', 'left_in_debounce');
    RETURN NULL;
END
$$;

-- `dead` is not among them: it can be redriven, with everything that it holds. A suppressed address takes nothing else
-- either. Of what may have been sent, nobody sends the parts.
CREATE TRIGGER members_are_let_go AFTER UPDATE OF state ON harkara.deliveries
FOR EACH ROW WHEN (
    OLD.state IS DISTINCT FROM NEW.state
    AND (NEW.state = 'failed' AND NEW.reason <> 'outcome_unknown' OR NEW.state = 'skipped' AND NEW.reason <> 'address_suppressed'))
EXECUTE FUNCTION harkara.let_members_go();

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
