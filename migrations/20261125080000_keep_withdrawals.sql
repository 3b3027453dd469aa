-- What is withdrawn while an attempt is on its way is not tried again.
-- Safe beside running code: the column is new and empty, code that does not know it does as before, and `may_become` only allows
-- more.
SET LOCAL ROLE harkara_owner;

-- When somebody withdrew it who came too late to cancel it: an attempt was on its way, or may have sent it. No other follows.
ALTER TABLE harkara.deliveries ADD COLUMN withdrawn_at timestamptz;

GRANT UPDATE (withdrawn_at) ON harkara.deliveries TO harkara_api;

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
                                        'skipped', 'canceled', 'expired', 'failed', 'dead')
    WHEN 'unknown'   THEN new_state IN ('sent', 'delivered', 'bounced', 'complained', 'queued', 'failed', 'dead')
    WHEN 'sent'      THEN new_state IN ('delivered', 'bounced', 'complained', 'failed')
    WHEN 'delivered' THEN new_state IN ('bounced', 'complained')
    WHEN 'bounced'   THEN new_state IN ('delivered', 'complained')
    WHEN 'dead'      THEN new_state IN ('queued')
    WHEN 'absorbed'  THEN new_state IN ('queued')
    ELSE false
END;

-- Where an attempt leaves a delivery. The same as domain::outcome::state_when_withdrawn; a test compares them.
CREATE FUNCTION harkara.state_after(p_withdrawn_at timestamptz, p_state text, p_outcome text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN p_withdrawn_at IS NULL OR p_state NOT IN ('queued', 'held', 'dead') THEN p_state
    WHEN p_outcome = 'unknown' THEN 'unknown'
    ELSE 'canceled'
END;

-- Withdraws the deliveries of these notifications, and answers with how many were canceled. Of those that an attempt has or had
-- in hand it keeps that they were withdrawn. It is one UPDATE, so that a row that changes meanwhile is the one or the other.
CREATE FUNCTION harkara.withdraw_deliveries(p_tenant uuid, p_notifications uuid[], p_detail text) RETURNS integer
LANGUAGE sql
SET search_path = pg_catalog
AS $$
    WITH withdrawn AS (
        UPDATE harkara.deliveries d
        SET state = CASE WHEN d.state IN ('scheduled', 'queued', 'held') THEN 'canceled' ELSE d.state END,
            reason = CASE WHEN d.state IN ('scheduled', 'queued', 'held') THEN 'canceled_by_caller' ELSE d.reason END,
            -- What is said of an attempt that has ended stays.
            reason_detail = CASE WHEN d.state IN ('unknown', 'dead', 'absorbed') THEN d.reason_detail ELSE p_detail END,
            due_at = CASE WHEN d.state IN ('scheduled', 'queued', 'held') THEN NULL ELSE d.due_at END,
            finished_at = CASE WHEN d.state IN ('scheduled', 'queued', 'held') THEN harkara.now() ELSE d.finished_at END,
            withdrawn_at = CASE WHEN d.state IN ('scheduled', 'queued', 'held') THEN d.withdrawn_at ELSE harkara.now() END,
            updated_at = harkara.now()
        WHERE d.tenant_id = p_tenant AND d.notification_id = ANY (p_notifications)
          AND (d.state IN ('scheduled', 'queued', 'held')
               OR d.withdrawn_at IS NULL AND d.state IN ('sending', 'unknown', 'dead', 'absorbed'))
        RETURNING d AS whole, d.notification_id, d.state, d.reason, gen_random_uuid() AS event_id
    ),
    told AS (
        INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
        SELECT p_tenant, w.event_id, w.notification_id, 'delivery.canceled',
               harkara.describe_delivery(w.event_id, w.whole, w.state, w.reason)
        FROM withdrawn w
        WHERE w.state = 'canceled'
    )
    SELECT count(*)::integer FROM withdrawn w WHERE w.state = 'canceled'
$$;

-- As before, but for those that were withdrawn after they had left.
CREATE OR REPLACE FUNCTION harkara.let_members_go() RETURNS trigger
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
      AND d.reason IN ('in_digest', 'left_in_batch', 'left_in_debounce') AND d.withdrawn_at IS NULL;
    RETURN NULL;
END
$$;

-- As before, with harkara.withdraw_deliveries, as POST /v1/notifications/{id}/cancel does.
CREATE OR REPLACE FUNCTION harkara.cancel(id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT uuid := harkara.door_tenant();
    asked  CONSTANT uuid := $1;
    became text;
BEGIN
    PERFORM harkara.set_tenant(tenant);
    -- A dispatcher that is taking it holds the row: this waits for it, and then finds the notification below.
    DELETE FROM harkara.door_requests d
    WHERE d.tenant_id = tenant AND d.request_id = asked AND d.refused_at IS NULL;
    IF FOUND THEN
        RETURN 'canceled';
    END IF;
    PERFORM harkara.withdraw_deliveries(tenant, ARRAY[asked], NULL);
    SELECT CASE WHEN bool_and(d.state = 'canceled') THEN 'canceled' ELSE 'too_late' END INTO became
    FROM harkara.deliveries d WHERE d.tenant_id = tenant AND d.notification_id = asked
    HAVING count(*) > 0;
    RETURN coalesce(became, (
        SELECT 'refused' FROM harkara.door_requests d WHERE d.tenant_id = tenant AND d.request_id = asked), 'not_found');
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.state_after TO harkara_worker;
GRANT EXECUTE ON FUNCTION harkara.withdraw_deliveries TO harkara_api, harkara_worker;

RESET ROLE;
