-- What waits for a digest is decided about anew also when the tenant changes what holds for those who say nothing, and no
-- digest takes along what is about to be decided about anew.
-- Safe beside running code: columns may be empty or have defaults, and older code goes on to close what it closed before.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.digest_entries
    -- When it was found that it is to wait; NULL from when something that this rested on has changed until it is found anew.
    ADD COLUMN decided_at timestamptz DEFAULT harkara.now();

-- What was found before the tenant changed its mind.
CREATE INDEX digest_entries_decided ON harkara.digest_entries (tenant_id, decided_at) WHERE digest_notification_id IS NULL;

ALTER TABLE harkara.tenant_settings
    -- Everything that waits since before then is to be decided about anew, from then on; `digest` does it by pages, because
    -- a tenant may have any number of recipients.
    ADD COLUMN held_review_at timestamptz;

CREATE INDEX tenants_to_review ON harkara.tenant_settings (tenant_id, held_review_at) WHERE held_review_at IS NOT NULL;

-- Asks for a review of everything that waits. A minute from now, so that what is decided about while this commits, by what
-- held before, is looked at, too.
CREATE FUNCTION harkara.ask_for_review(p_tenant uuid) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog
AS $$
    INSERT INTO harkara.tenant_settings AS s (tenant_id, held_review_at)
    VALUES (p_tenant, harkara.clock() + interval '1 minute')
    ON CONFLICT (tenant_id) DO UPDATE SET held_review_at = excluded.held_review_at
$$;

-- What waits for a digest is decided about anew as soon as the recipient says something else: that it is wanted at once,
-- or not at all. Nothing waits for a message that cannot bring it any more. What the tenant says is for all its recipients.
CREATE OR REPLACE FUNCTION harkara.decide_held_anew() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.ask_for_review(c.tenant_id)
    FROM (SELECT DISTINCT c.tenant_id FROM changed_rows c WHERE c.subject_id = '00000000-0000-0000-0000-000000000000') c;
    -- Deliveries first, as whoever closes a digest or records an attempt does.
    WITH waiting AS (
        UPDATE harkara.deliveries d
        SET not_before = harkara.now(), due_at = harkara.now(), updated_at = harkara.now()
        FROM (SELECT DISTINCT c.tenant_id, c.subject_id FROM changed_rows c) c
        JOIN harkara.recipients r USING (tenant_id, subject_id)
        JOIN harkara.digest_entries e USING (tenant_id, recipient_id)
        WHERE e.digest_notification_id IS NULL
          AND d.tenant_id = e.tenant_id AND d.delivery_id = e.delivery_id AND d.state = 'held' AND d.reason = 'cadence_not_due'
        RETURNING d.tenant_id, d.delivery_id
    )
    UPDATE harkara.digest_entries e
    SET decided_at = NULL
    FROM waiting w
    WHERE e.tenant_id = w.tenant_id AND e.delivery_id = w.delivery_id;
    RETURN NULL;
END
$$;

-- A category that needs another consent, is mandatory for others, or goes into another digest, is the tenant's word, too;
-- and so is the digest of those that name none.
CREATE FUNCTION harkara.decide_all_anew() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.ask_for_review(NEW.tenant_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER held_is_decided_anew AFTER UPDATE ON harkara.categories
FOR EACH ROW WHEN (
    (OLD.consent_purpose, OLD.unmutable_roles, OLD.digest_category)
    IS DISTINCT FROM (NEW.consent_purpose, NEW.unmutable_roles, NEW.digest_category))
EXECUTE FUNCTION harkara.decide_all_anew();
CREATE TRIGGER held_is_decided_anew AFTER UPDATE ON harkara.tenant_settings
FOR EACH ROW WHEN (OLD.digest_category IS DISTINCT FROM NEW.digest_category) EXECUTE FUNCTION harkara.decide_all_anew();

GRANT UPDATE (decided_at) ON harkara.digest_entries TO harkara_api;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.ask_for_review TO harkara_api;

RESET ROLE;
