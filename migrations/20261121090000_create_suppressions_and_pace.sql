-- What the claim asks before anything is sent: suppressed addresses, open breakers, and the account's pace.
-- Safe beside running code: nothing existing is changed but a column that may be empty.
SET LOCAL ROLE harkara_owner;

-- Addresses that must not be sent to. A row of the operator holds for every tenant: it is what the provider's own
-- account list says, and the provider would swallow the mail whoever sends it.
CREATE TABLE harkara.suppressions (
    tenant_id      uuid        NOT NULL REFERENCES harkara.tenants,
    suppression_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- In lower case, as it is looked for.
    address        text        NOT NULL,
    reason         text        NOT NULL,
    source         text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, suppression_id),
    UNIQUE (tenant_id, address),
    CONSTRAINT address_is_lower_case CHECK (address = lower(address)),
    CONSTRAINT suppression_reason_is_known CHECK (reason IN ('hard_bounce', 'soft_bounces', 'complaint', 'manual')),
    CONSTRAINT suppression_source_is_known CHECK (source IN ('feedback', 'provider_list', 'api'))
);

-- The lock that orders suppressing an address and claiming a delivery to it. A claim takes it shared.
CREATE FUNCTION harkara.address_lock(p_address text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended(lower(p_address), 0);

-- Whoever suppresses waits for claims of that address that are about to commit; whoever claims later sees the row.
-- So no claim commits after the suppression has. Writers of many rows insert them in the order of address_lock.
CREATE FUNCTION harkara.lock_address() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(harkara.address_lock(NEW.address));
    RETURN NEW;
END
$$;

CREATE TRIGGER suppression_waits_for_claims BEFORE INSERT ON harkara.suppressions
FOR EACH ROW EXECUTE FUNCTION harkara.lock_address();

-- An open breaker: the provider does not take mail of the account, or of one sender, for now. Closed ones have no row.
-- The operator's, because account and senders are the deployment's.
CREATE TABLE harkara.breakers (
    tenant_id     uuid        NOT NULL REFERENCES harkara.tenants,
    -- 'account', or 'identity:' and the sender's address ('default' for the deployment's own).
    breaker_key   text        NOT NULL,
    -- Why: a code of domain::Reason, which held deliveries show.
    reason        text        NOT NULL,
    -- When the attempt began that found it.
    opened_at     timestamptz NOT NULL,
    -- When the last refusal was recorded: an attempt that began later is a probe.
    failed_at     timestamptz NOT NULL DEFAULT now(),
    -- How often in a row a probe failed, the opening included; the wait doubles with it.
    failure_count integer     NOT NULL DEFAULT 1,
    -- When one delivery may be tried as a probe.
    retry_at      timestamptz NOT NULL,
    -- Deliveries held since the last probe: each gets its own time after retry_at, so that they do not come back at once.
    held_count    integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, breaker_key)
);

-- The clocks that space sends out. The operator's row is the provider account's; a tenant's shows who takes how much.
-- No fact about anybody, and written by every claim: it is not audited.
CREATE TABLE harkara.send_pace (
    tenant_id        uuid        PRIMARY KEY REFERENCES harkara.tenants,
    -- The provider's limit for the account; NULL while it is not known, and then nothing is paced.
    sends_per_second integer,
    -- When the next send would be due if all were spaced evenly; up to a burst it may lie ahead.
    next_send_at     timestamptz NOT NULL DEFAULT '-infinity',
    -- The last time that is promised to a delivery which waits in line.
    line_ends_at     timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT sends_per_second_is_positive CHECK (sends_per_second > 0)
)
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

INSERT INTO harkara.send_pace (tenant_id) VALUES ('00000000-0000-0000-0000-000000000000');

-- The time in line that a delivery was promised because the account's rate was used up.
ALTER TABLE harkara.deliveries ADD COLUMN slot_at timestamptz;

-- Says of each delivery that is ready whether it may be sent now. The rows come locked from the claim.
--
-- Answers, one for each given delivery: `claim`; `skip` (the address is suppressed); `hold` until a time, with a reason
-- (a breaker is open); `pace` until a time, with the slot in line that it keeps (the account's rate is used up).
--
-- Fairness: a tenant below a tenth of the account's rate is sent at once, up to two seconds ahead of the even
-- spacing. Who takes more stands in one line for what the others leave. So nobody waits for another tenant's backlog.
--
-- It is a function because its statements see what was committed while it waited for the address locks;
-- the claim's own statement would not.
CREATE FUNCTION harkara.admit_sends(
    p_deliveries uuid[],
    p_tenants    uuid[],
    p_addresses  text[],
    p_identities text[],
    p_sandboxes  boolean[],
    p_slots      timestamptz[]
) RETURNS TABLE (delivery_id uuid, verdict text, reason text, until timestamptz, slot_at timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    operator  CONSTANT uuid     := '00000000-0000-0000-0000-000000000000';
    -- What an account may send at once after a pause.
    burst     CONSTANT interval := interval '1 second';
    -- How far ahead of it a tenant may send that takes less than its share: further than the line ever gets.
    credit    CONSTANT interval := interval '2 seconds';
    -- How much of its share a tenant may take at once.
    light     CONSTANT interval := interval '5 seconds';
    -- A tenant's share of the rate, and the part of the rate that is promised to the line.
    shares    CONSTANT integer  := 10;
    promised  CONSTANT double precision := 0.9;
    -- A probe that is not heard of for so long is followed by another.
    probing   CONSTANT interval := interval '30 seconds';
    -- The spacing of held deliveries where the account's rate is not known.
    unknown_step CONSTANT interval := interval '100 milliseconds';
    suppressed uuid[];
    clock     timestamptz;
    step      interval;
    pace      harkara.send_pace;
    tenants   jsonb := '{}';
    own       timestamptz;
    ahead     timestamptz;
    breaker   harkara.breakers;
    keys      text[];
    held      jsonb := '{}';
    waiting   integer;
    is_broken boolean;
    may_go    boolean;
    asked     record;
BEGIN
    -- Copies of messages ask for nothing that is ready.
    IF coalesce(cardinality(p_deliveries), 0) = 0 THEN
        RETURN;
    END IF;
    -- In order, so that two claims and a suppression cannot wait for each other in a circle.
    PERFORM pg_advisory_xact_lock_shared(l.key)
    FROM (SELECT DISTINCT harkara.address_lock(a) AS key FROM unnest(p_addresses) a WHERE a IS NOT NULL ORDER BY 1) l;

    SELECT array_agg(a.delivery_id) INTO suppressed
    FROM unnest(p_deliveries, p_tenants, p_addresses) AS a (delivery_id, tenant_id, address)
    WHERE EXISTS (SELECT FROM harkara.suppressions s
                  WHERE s.tenant_id IN (a.tenant_id, operator) AND s.address = lower(a.address));

    -- Breakers before the pace, as in the record of attempts; the account's breaker sorts first.
    PERFORM FROM harkara.breakers b
    WHERE b.tenant_id = operator AND (b.breaker_key = 'account' OR b.breaker_key IN (SELECT 'identity:' || i FROM unnest(p_identities) i))
    ORDER BY b.breaker_key FOR UPDATE;
    is_broken := FOUND;
    SELECT * INTO pace FROM harkara.send_pace s WHERE s.tenant_id = operator;
    -- The account's clock is locked only where there is a rate to keep or a throttling to wait out.
    IF pace.sends_per_second IS NOT NULL OR pace.next_send_at > now() THEN
        SELECT * INTO pace FROM harkara.send_pace s WHERE s.tenant_id = operator FOR UPDATE;
        SELECT coalesce(jsonb_object_agg(s.tenant_id, s.next_send_at), '{}') INTO tenants
        FROM harkara.send_pace s WHERE s.tenant_id = ANY (p_tenants);
    END IF;
    step := make_interval(secs => coalesce(1.0 / pace.sends_per_second, 0));
    clock := clock_timestamp();

    -- The tenants of a batch take turns.
    FOR asked IN
        SELECT a.*, row_number() OVER (PARTITION BY a.tenant_id ORDER BY a.slot_at, a.delivery_id) AS turn
        FROM unnest(p_deliveries, p_tenants, p_addresses, p_identities, p_sandboxes, p_slots)
             AS a (delivery_id, tenant_id, address, identity, is_sandbox, slot_at)
        ORDER BY turn, a.slot_at, a.delivery_id
    LOOP
        delivery_id := asked.delivery_id;
        slot_at := asked.slot_at;
        reason := NULL;
        until := NULL;
        verdict := 'claim';

        IF delivery_id = ANY (suppressed) THEN
            verdict := 'skip';
            RETURN NEXT;
            CONTINUE;
        END IF;
        -- A sandbox notification never reaches the provider.
        IF asked.is_sandbox THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF is_broken THEN
            keys := ARRAY['account', 'identity:' || asked.identity];
            -- Any that is not yet to be probed holds; only then does this delivery take the probe of those that are.
            SELECT * INTO breaker FROM harkara.breakers b
            WHERE b.tenant_id = operator AND b.breaker_key = ANY (keys) AND b.retry_at > clock
            ORDER BY b.breaker_key LIMIT 1;
            IF FOUND THEN
                waiting := coalesce((held ->> breaker.breaker_key)::integer, 0) + 1;
                held := held || jsonb_build_object(breaker.breaker_key, waiting);
                verdict := 'hold';
                reason := breaker.reason;
                until := breaker.retry_at
                         + (breaker.held_count + waiting) * CASE WHEN step > interval '0' THEN step ELSE unknown_step END;
                RETURN NEXT;
                CONTINUE;
            END IF;
            UPDATE harkara.breakers b SET retry_at = clock + probing, held_count = 0
            WHERE b.tenant_id = operator AND b.breaker_key = ANY (keys);
            IF FOUND THEN
                -- The one probe, which goes whatever the pace is.
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        own := greatest((tenants ->> asked.tenant_id::text)::timestamptz, clock);
        ahead := greatest(pace.next_send_at, clock);
        IF slot_at IS NULL AND own <= clock + light THEN
            may_go := ahead <= clock + credit;
        ELSIF slot_at <= clock OR own <= clock + light THEN
            may_go := ahead <= clock + burst;
        ELSE
            may_go := pace.line_ends_at <= clock AND ahead <= clock + burst;
        END IF;

        IF may_go THEN
            pace.next_send_at := ahead + step;
            IF slot_at IS NULL THEN
                tenants := tenants || jsonb_build_object(asked.tenant_id, own + shares * step);
            END IF;
        ELSE
            verdict := 'pace';
            IF slot_at <= clock THEN
                -- Its time has come, but so has others': spread over as long as the line stood still.
                until := ahead + random() * greatest(credit, clock - slot_at);
            ELSIF own <= clock + light THEN
                until := ahead;
            ELSE
                pace.line_ends_at := greatest(pace.line_ends_at, ahead) + step / promised;
                until := pace.line_ends_at;
                slot_at := until;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;

    UPDATE harkara.breakers b SET held_count = b.held_count + h.value::integer
    FROM jsonb_each_text(held) h
    WHERE b.tenant_id = operator AND b.breaker_key = h.key;
    IF pace.sends_per_second IS NOT NULL THEN
        UPDATE harkara.send_pace s SET next_send_at = pace.next_send_at, line_ends_at = pace.line_ends_at
        WHERE s.tenant_id = operator;
        INSERT INTO harkara.send_pace (tenant_id, next_send_at)
        SELECT t.key::uuid, t.value::timestamptz FROM jsonb_each_text(tenants) t ORDER BY t.key
        ON CONFLICT (tenant_id) DO UPDATE SET next_send_at = excluded.next_send_at;
    END IF;
END
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.suppressions, harkara.breakers, harkara.send_pace}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
    END LOOP;
END
$$;

CALL harkara.admit_worker('harkara.suppressions', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL harkara.admit_worker('harkara.breakers', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL harkara.admit_worker('harkara.send_pace', 'SELECT', 'INSERT', 'UPDATE');

CALL harkara.audit_table('harkara.suppressions', 'suppression_id', 'address');
CALL harkara.audit_table('harkara.breakers', 'breaker_key');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.admit_sends, harkara.address_lock TO harkara_worker;

RESET ROLE;
