-- What the provider says of a mail after it took it.
-- Safe beside running code: the new columns may be empty, the new table has no reader yet, and `may_become` only allows
-- more than before. The checks are NOT VALID because there is no row to look at: the columns they are about are new,
-- and looking all the same would keep every claim waiting meanwhile.
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
    ELSE false
END;

-- Feedback may come for what is queued or held, and then there was an attempt: what was never tried was never sent.
CREATE OR REPLACE FUNCTION harkara.check_transition() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    IF NEW.attempt_count < OLD.attempt_count THEN
        RAISE EXCEPTION 'the number of attempts may not fall from % to %', OLD.attempt_count, NEW.attempt_count
            USING ERRCODE = 'check_violation', CONSTRAINT = 'delivery_moves_forward';
    END IF;
    IF OLD.state IS DISTINCT FROM NEW.state AND NOT harkara.may_become(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a delivery that is % may not become %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'delivery_moves_forward';
    END IF;
    IF NEW.attempt_count = 0 AND NEW.state IN ('sent', 'delivered', 'bounced', 'complained', 'failed') THEN
        RAISE EXCEPTION 'a delivery without an attempt may not become %', NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'delivery_moves_forward';
    END IF;
    RETURN NEW;
END
$$;

-- The strongest thing that was said of the attempt's mail, and when it was heard.
ALTER TABLE harkara.attempts
    ADD COLUMN feedback text,
    ADD COLUMN feedback_at timestamptz,
    ADD CONSTRAINT feedback_is_known CHECK (feedback IN (
        'sent', 'delayed', 'rejected', 'soft_bounced', 'content_rejected', 'delivered', 'bounced', 'complained')) NOT VALID,
    ADD CONSTRAINT feedback_has_its_time CHECK ((feedback IS NULL) = (feedback_at IS NULL)) NOT VALID;

-- The order of domain::Feedback; a test compares them.
CREATE FUNCTION harkara.check_feedback() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    weakest_first CONSTANT text[] := ARRAY[
        'sent', 'delayed', 'rejected', 'soft_bounced', 'content_rejected', 'delivered', 'bounced', 'complained'];
BEGIN
    IF NEW.feedback IS NULL OR array_position(weakest_first, NEW.feedback) < array_position(weakest_first, OLD.feedback) THEN
        RAISE EXCEPTION 'feedback of an attempt may not fall from % to %', OLD.feedback, NEW.feedback
            USING ERRCODE = 'check_violation', CONSTRAINT = 'feedback_gets_stronger';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER feedback_gets_stronger BEFORE UPDATE ON harkara.attempts
FOR EACH ROW WHEN (OLD.feedback IS NOT NULL AND OLD.feedback IS DISTINCT FROM NEW.feedback) EXECUTE FUNCTION harkara.check_feedback();

-- Soft bounces in a row of one tenant's address. A delivery to it removes the row.
CREATE TABLE harkara.soft_bounces (
    tenant_id      uuid        NOT NULL REFERENCES harkara.tenants,
    soft_bounce_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- In lower case, as in suppressions.
    address        text        NOT NULL,
    bounce_count   integer     NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, soft_bounce_id),
    UNIQUE (tenant_id, address),
    CONSTRAINT address_is_lower_case CHECK (address = lower(address)),
    CONSTRAINT bounces_were_counted CHECK (bounce_count > 0)
);

CALL harkara.guard_table('harkara.soft_bounces');
CALL harkara.admit_worker('harkara.soft_bounces', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL harkara.audit_table('harkara.soft_bounces', 'soft_bounce_id', 'address');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;

RESET ROLE;
