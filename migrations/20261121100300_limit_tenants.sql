-- What one tenant may ask for, so that nobody's requests stand in everybody's way; and the tenant's own list of
-- addresses that are left alone.
-- Safe beside running code: nothing existing is changed, and the old code asks for no limit.
SET LOCAL ROLE harkara_owner;

-- Set by the operator: through the migrate function, or by hand as the administrator. A tenant without a row has the
-- usual rate of harkara.take_request, and no quota.
CREATE TABLE harkara.tenant_limits (
    tenant_id             uuid        PRIMARY KEY REFERENCES harkara.tenants,
    -- NULL lets through as many as come.
    requests_per_minute   integer,
    -- Each recipient of a request is one, and the day is UTC's. NULL lets through as many as come.
    notifications_per_day integer,
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT request_rate_is_bounded CHECK (requests_per_minute BETWEEN 1 AND 1000000),
    CONSTRAINT quota_is_not_negative CHECK (notifications_per_day >= 0)
);

-- The clock of each bucket of requests: when it would be full again if no more came.
-- No fact about anybody, and written by every request: it is not audited.
CREATE TABLE harkara.request_rates (
    tenant_id  uuid        NOT NULL REFERENCES harkara.tenants,
    -- Whose bucket: of a recipient with a token of its own, as harkara.address_subject has what the token names it by.
    -- The nil subject is the tenant.
    subject_id uuid        NOT NULL,
    full_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subject_id)
)
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What a tenant with a quota was accepted for on the last day that it asked for anything. Not audited, as above.
CREATE TABLE harkara.daily_counts (
    tenant_id          uuid        PRIMARY KEY REFERENCES harkara.tenants,
    -- When the day began.
    day_at             timestamptz NOT NULL,
    notification_count integer     NOT NULL,
    CONSTRAINT notifications_were_counted CHECK (notification_count > 0)
)
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Takes one request out of a bucket, which holds what comes in ten seconds, and says how it stands:
-- {is_allowed, quota, window_seconds, remaining, reset_seconds, retry_after_seconds}. NULL where there is no limit, or no
-- such tenant.
--
-- p_recipient  what a recipient's own token names it by. Such a token has a small bucket of its own, whatever the tenant's
--              rate is: nobody who is written to can use up what the tenant may ask for. NULL is the tenant's bucket.
--
-- For a statement of its own, or beside one that only reads: the row stays locked until the transaction ends, and its
-- commit does not wait for the disk. A crash may give some requests back.
CREATE FUNCTION harkara.take_request(p_tenant uuid, p_recipient text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    usual      CONSTANT integer := 6000;
    recipients CONSTANT integer := 120;
    bucket uuid;
    rate   integer;
    quota  integer;
    step   interval;
    found_at timestamptz;
    clock  timestamptz;
    wait   double precision;
BEGIN
    PERFORM harkara.set_tenant(p_tenant);
    SELECT CASE WHEN p_recipient IS NOT NULL THEN recipients
                WHEN l.tenant_id IS NULL THEN usual ELSE l.requests_per_minute END,
           CASE WHEN p_recipient IS NOT NULL THEN harkara.address_subject(t.salt, p_recipient)
                ELSE '00000000-0000-0000-0000-000000000000' END
    INTO rate, bucket
    FROM harkara.tenants t
    LEFT JOIN harkara.tenant_limits l ON l.tenant_id = t.tenant_id
    WHERE t.tenant_id = p_tenant;
    IF rate IS NULL THEN
        RETURN NULL;
    END IF;
    quota := greatest(1, rate / 6);
    step := interval '60 seconds' / rate;
    PERFORM set_config('synchronous_commit', 'off', true);

    -- The clock is read behind the lock, so that whoever waited for it is not taken for early.
    INSERT INTO harkara.request_rates AS r (tenant_id, subject_id, full_at)
    VALUES (p_tenant, bucket, clock_timestamp() + step)
    ON CONFLICT (tenant_id, subject_id) DO UPDATE SET full_at = greatest(r.full_at, clock_timestamp()) + step
        WHERE r.full_at + step <= clock_timestamp() + quota * step
    RETURNING r.full_at INTO found_at;
    clock := clock_timestamp();
    IF found_at IS NULL THEN
        SELECT r.full_at INTO found_at FROM harkara.request_rates r
        WHERE r.tenant_id = p_tenant AND r.subject_id = bucket;
        wait := extract(epoch FROM found_at + step - quota * step - clock);
    END IF;
    RETURN jsonb_build_object(
        'is_allowed', wait IS NULL,
        'quota', quota,
        'window_seconds', ceil(extract(epoch FROM quota * step))::integer,
        'remaining', CASE WHEN wait IS NULL
            THEN greatest(0, floor(quota - extract(epoch FROM found_at - clock) / extract(epoch FROM step)))::integer
            ELSE 0 END,
        'reset_seconds', greatest(0, ceil(extract(epoch FROM found_at - clock)))::integer,
        'retry_after_seconds', CASE WHEN wait IS NOT NULL THEN greatest(1, ceil(wait))::integer END);
END
$$;

-- Counts what harkara.accept_notifications has just accepted, whose answer it hands through, against the tenant's quota
-- of the day. Too many end the statement, so that nothing of it was accepted: SQLSTATE HKQ01.
-- What a stored answer or a dedupe key turned away is not counted again.
CREATE FUNCTION harkara.count_accepted(p_tenant uuid, p_outcome jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    most     integer;
    accepted integer;
BEGIN
    SELECT l.notifications_per_day INTO most FROM harkara.tenant_limits l WHERE l.tenant_id = p_tenant;
    IF most IS NULL OR p_outcome ? 'stored_answer' THEN
        RETURN p_outcome;
    END IF;
    SELECT count(*) INTO accepted FROM jsonb_array_elements(p_outcome -> 'answer') a WHERE a ->> 'status' = 'accepted';
    IF accepted = 0 THEN
        RETURN p_outcome;
    END IF;
    -- A request that began before midnight and waited here belongs to the new day.
    INSERT INTO harkara.daily_counts AS c (tenant_id, day_at, notification_count)
    SELECT p_tenant, date_trunc('day', now(), 'UTC'), accepted WHERE accepted <= most
    ON CONFLICT (tenant_id) DO UPDATE
        SET day_at = greatest(c.day_at, excluded.day_at),
            notification_count = excluded.notification_count
                + CASE WHEN c.day_at >= excluded.day_at THEN c.notification_count ELSE 0 END
        WHERE excluded.notification_count
                + CASE WHEN c.day_at >= excluded.day_at THEN c.notification_count ELSE 0 END <= most;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the quota of % notifications a day is used up', most USING ERRCODE = 'HKQ01';
    END IF;
    RETURN p_outcome;
END
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.tenant_limits, harkara.request_rates, harkara.daily_counts}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
    END LOOP;
END
$$;

GRANT SELECT ON harkara.tenant_limits TO harkara_api;
GRANT SELECT, INSERT, UPDATE ON harkara.request_rates, harkara.daily_counts TO harkara_api;
CREATE POLICY owner_keeps_limits ON harkara.tenant_limits TO harkara_owner USING (true) WITH CHECK (true);
CALL harkara.audit_table('harkara.tenant_limits', 'tenant_id');

-- A tenant's own suppressions. What it did not add itself it may only read and remove.
GRANT SELECT, INSERT, UPDATE (reason, source), DELETE ON harkara.suppressions TO harkara_api;
-- To forget the bounces that led to what is removed.
GRANT SELECT, DELETE ON harkara.soft_bounces TO harkara_api;
CREATE INDEX suppressions_by_time ON harkara.suppressions (tenant_id, created_at, suppression_id);

-- Whether an address is on the provider's own list, which holds for every tenant and is nobody's but the operator's:
-- when it came there, or NULL.
CREATE FUNCTION harkara.listed_since(p_address text) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.created_at FROM harkara.suppressions s
    WHERE s.tenant_id = '00000000-0000-0000-0000-000000000000' AND s.address = lower(p_address)
$$;
CREATE POLICY owner_reads_the_providers_list ON harkara.suppressions FOR SELECT TO harkara_owner
USING (tenant_id = '00000000-0000-0000-0000-000000000000');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.take_request, harkara.count_accepted, harkara.listed_since, harkara.address_lock TO harkara_api;

RESET ROLE;
