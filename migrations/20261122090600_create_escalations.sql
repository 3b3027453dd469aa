-- Escalation policies, and the escalations that run by them.
-- Safe beside running code: tables are new, and the one column that an old table gets may be empty. Its index makes writers
-- of recipients wait for as long as it takes to read the table once.
SET LOCAL ROLE harkara_owner;

-- Whose reports somebody's are: the next level of an escalation may be `manager`.
ALTER TABLE harkara.recipients
    ADD COLUMN manager_id text,
    ADD CONSTRAINT manager_is_a_recipient FOREIGN KEY (tenant_id, manager_id) REFERENCES harkara.recipients,
    ADD CONSTRAINT nobody_manages_themselves CHECK (manager_id <> recipient_id);

-- Who has a role: a step that means one looks at these, and not at everybody.
CREATE INDEX recipients_with_roles ON harkara.recipients (tenant_id, recipient_id) WHERE roles <> '{}' AND erased_at IS NULL;

-- Levels with their delays, as wire::escalation_policies writes them. It names recipients by id only.
CREATE TABLE harkara.escalation_policies (
    tenant_id  uuid        NOT NULL REFERENCES harkara.tenants,
    policy_key text        NOT NULL,
    definition jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT harkara.now(),
    updated_at timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, policy_key)
);

-- A running one, with its own copy of the policy: what is put or deleted later does not change it.
CREATE TABLE harkara.escalations (
    tenant_id       uuid        NOT NULL REFERENCES harkara.tenants,
    escalation_id   uuid        NOT NULL,
    -- The tenant's own name for what it is about; of each there is one open at most.
    escalation_key  text,
    policy_key      text        NOT NULL,
    definition      jsonb       NOT NULL,
    data            jsonb       NOT NULL DEFAULT '{}',
    -- Whom the data is about, where it comes from what was theirs: it is forgotten when the last of them is erased.
    about           text[]      NOT NULL DEFAULT '{}',
    state           text        NOT NULL DEFAULT 'open',
    -- Why it was given up.
    reason          text,
    -- What was fired last: in which round, which step, which tier of it. Steps and tiers count from 1; 0 is before the first.
    repeat_number   integer     NOT NULL DEFAULT 0,
    level           integer     NOT NULL DEFAULT 0,
    tier            integer     NOT NULL DEFAULT 0,
    level_fired_at  timestamptz,
    -- Whether the level has a tier that was not fired yet: it comes earlier where all that was sent has failed.
    has_fallback    boolean     NOT NULL DEFAULT false,
    -- When the next step fires, or the end comes. Every open escalation has one, so nothing open lacks a next step.
    next_step_at    timestamptz,
    acknowledged_at timestamptz,
    -- The recipient who acknowledged it last, or the subject of a token.
    acknowledged_by text,
    finished_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT harkara.now(),
    updated_at      timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, escalation_id),
    CONSTRAINT escalation_state_is_known CHECK (state IN ('open', 'acknowledged', 'resolved', 'exhausted', 'canceled')),
    CONSTRAINT open_escalation_has_a_next_step CHECK ((state = 'open') = (next_step_at IS NOT NULL)),
    CONSTRAINT ended_escalation_has_an_end_time CHECK (
        (state IN ('resolved', 'exhausted', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT canceled_escalation_has_a_reason CHECK ((state = 'canceled') = (reason IS NOT NULL)),
    CONSTRAINT acknowledged_escalation_says_by_whom CHECK (
        (acknowledged_at IS NULL) = (acknowledged_by IS NULL) AND (state <> 'acknowledged' OR acknowledged_at IS NOT NULL)),
    CONSTRAINT fired_level_has_a_time CHECK ((level > 0) = (level_fired_at IS NOT NULL) AND (level > 0) = (tier > 0)),
    CONSTRAINT levels_count_upwards CHECK (level >= 0 AND tier >= 0 AND repeat_number >= 0)
);

-- All of the function's work, and only that.
CREATE INDEX escalations_due ON harkara.escalations (tenant_id, next_step_at) WHERE next_step_at IS NOT NULL;
CREATE INDEX escalations_with_fallback ON harkara.escalations (tenant_id, escalation_id) WHERE has_fallback AND next_step_at IS NOT NULL;
CREATE INDEX escalations_by_time ON harkara.escalations (tenant_id, created_at, escalation_id);
CREATE INDEX escalations_by_state ON harkara.escalations (tenant_id, state, created_at, escalation_id);
CREATE INDEX escalations_by_key ON harkara.escalations (tenant_id, escalation_key, created_at, escalation_id)
WHERE escalation_key IS NOT NULL;
-- What erasing somebody looks at.
CREATE INDEX escalations_about_recipients ON harkara.escalations (tenant_id, escalation_id) WHERE about <> '{}';
CREATE UNIQUE INDEX one_open_escalation_of_a_key ON harkara.escalations (tenant_id, escalation_key)
WHERE state = 'open' AND escalation_key IS NOT NULL;

-- What was fired, and whom it was for. Never changed: what happened stays.
CREATE TABLE harkara.escalation_steps (
    tenant_id     uuid        NOT NULL,
    escalation_id uuid        NOT NULL,
    repeat_number integer     NOT NULL,
    level         integer     NOT NULL,
    tier          integer     NOT NULL,
    fired_at      timestamptz NOT NULL DEFAULT harkara.now(),
    -- Whom the step means, as it was when it fired, whether they could be reached or not.
    recipients    text[]      NOT NULL,
    reached_count integer     NOT NULL,
    -- Why nobody was reached.
    reason        text,
    -- What else there is to say, for people.
    note          text,
    PRIMARY KEY (tenant_id, escalation_id, repeat_number, level, tier),
    FOREIGN KEY (tenant_id, escalation_id) REFERENCES harkara.escalations,
    CONSTRAINT step_reached_somebody_or_says_why CHECK ((reached_count = 0) = (reason IS NOT NULL)),
    CONSTRAINT reached_are_counted CHECK (reached_count >= 0)
);

-- What a step became, for each recipient that it reached.
CREATE TABLE harkara.escalation_notifications (
    tenant_id       uuid    NOT NULL,
    notification_id uuid    NOT NULL,
    escalation_id   uuid    NOT NULL,
    repeat_number   integer NOT NULL,
    level           integer NOT NULL,
    tier            integer NOT NULL,
    recipient_id    text    NOT NULL,
    PRIMARY KEY (tenant_id, notification_id),
    FOREIGN KEY (tenant_id, escalation_id, repeat_number, level, tier) REFERENCES harkara.escalation_steps
);

CREATE INDEX escalation_notifications_by_escalation ON harkara.escalation_notifications (tenant_id, escalation_id);
CREATE INDEX escalation_notifications_by_recipient ON harkara.escalation_notifications (tenant_id, recipient_id);

-- Which recipients have acknowledged an escalation, each once.
CREATE TABLE harkara.escalation_acknowledgements (
    tenant_id       uuid        NOT NULL,
    escalation_id   uuid        NOT NULL,
    recipient_id    text        NOT NULL,
    acknowledged_at timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, escalation_id, recipient_id),
    FOREIGN KEY (tenant_id, escalation_id) REFERENCES harkara.escalations
);

-- Whether everybody whom an escalation has reached has acknowledged it or was erased. Before it has reached anybody, it
-- waits for those whom it will.
CREATE FUNCTION harkara.waits_for_nobody(p_tenant uuid, p_escalation uuid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT EXISTS (
        SELECT FROM harkara.escalation_notifications n
        WHERE n.tenant_id = p_tenant AND n.escalation_id = p_escalation
    ) AND NOT EXISTS (
        SELECT FROM harkara.escalation_notifications n
        JOIN harkara.recipients r ON r.tenant_id = p_tenant AND r.recipient_id = n.recipient_id AND r.erased_at IS NULL
        WHERE n.tenant_id = p_tenant AND n.escalation_id = p_escalation
          AND NOT EXISTS (
              SELECT FROM harkara.escalation_acknowledgements a
              WHERE a.tenant_id = p_tenant AND a.escalation_id = p_escalation AND a.recipient_id = n.recipient_id))
$$;

-- Whether what an escalation says is to be forgotten as soon as it is not open: it was said to somebody who was erased, or
-- all whom it is about were.
CREATE FUNCTION harkara.is_to_be_forgotten(p_tenant uuid, p_escalation uuid, p_about text[]) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT EXISTS (
        SELECT FROM harkara.escalation_notifications n
        JOIN harkara.recipients r ON r.tenant_id = p_tenant AND r.recipient_id = n.recipient_id AND r.erased_at IS NOT NULL
        WHERE n.tenant_id = p_tenant AND n.escalation_id = p_escalation
    ) OR p_about <> '{}' AND NOT EXISTS (
        SELECT FROM harkara.recipients r
        WHERE r.tenant_id = p_tenant AND r.recipient_id = ANY (p_about) AND r.erased_at IS NULL)
$$;

-- What is to be forgotten of a recipient who was erased: whose report it was, what the escalations said that it was in or
-- that were about it and that are not open any more, and the answers that show it. Which steps were for it stays, by its id.
-- And what waited for nobody else goes on.
CREATE FUNCTION harkara.erase_recipient_escalations(p_recipient text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    tenant CONSTANT uuid := harkara.current_tenant();
    own    CONSTANT uuid[] := ARRAY(
        SELECT n.escalation_id FROM harkara.escalation_notifications n
        WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
        UNION
        SELECT e.escalation_id FROM harkara.escalations e
        WHERE e.tenant_id = tenant AND e.about <> '{}' AND p_recipient = ANY (e.about));
BEGIN
    UPDATE harkara.recipients r SET manager_id = NULL
    WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient AND r.manager_id IS NOT NULL;
    UPDATE harkara.escalations e SET data = '{}'
    WHERE e.tenant_id = tenant AND e.escalation_id = ANY (own) AND e.state <> 'open' AND e.data <> '{}'
      AND harkara.is_to_be_forgotten(tenant, e.escalation_id, e.about);
    -- Whoever has one of these is firing or answering it, and may wait for us, so that it is passed over: its next turn comes
    -- to the same, if later.
    UPDATE harkara.escalations e SET next_step_at = harkara.now(), updated_at = harkara.now()
    WHERE e.tenant_id = tenant AND e.escalation_id IN (
        SELECT o.escalation_id FROM harkara.escalations o
        WHERE o.tenant_id = tenant AND o.escalation_id = ANY (own) AND o.state = 'open' AND o.next_step_at > harkara.now()
          AND harkara.waits_for_nobody(tenant, o.escalation_id)
        FOR NO KEY UPDATE SKIP LOCKED);
    -- As wire::http names the routes.
    DELETE FROM harkara.idempotency_keys k
    WHERE k.tenant_id = tenant AND starts_with(k.route, 'POST /v1/escalations')
      AND k.answer #>> '{escalation,id}' IN (SELECT 'esc_' || replace(o::text, '-', '') FROM unnest(own) o);
END
$$;

-- The others need what an open one says. It is forgotten as soon as that one is not open any more.
CREATE FUNCTION harkara.forget_answered_escalation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    -- Whoever is just being erased is waited for: the erasure has seen this one open and left it to us.
    PERFORM FROM harkara.recipients r
    WHERE r.tenant_id = NEW.tenant_id AND r.recipient_id = ANY (NEW.about || ARRAY(
        SELECT n.recipient_id FROM harkara.escalation_notifications n
        WHERE n.tenant_id = NEW.tenant_id AND n.escalation_id = NEW.escalation_id))
    ORDER BY r.recipient_id FOR KEY SHARE;
    IF harkara.is_to_be_forgotten(NEW.tenant_id, NEW.escalation_id, NEW.about) THEN
        NEW.data := '{}';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER answered_escalation_forgets_the_erased BEFORE UPDATE OF state ON harkara.escalations
FOR EACH ROW WHEN (OLD.state = 'open' AND NEW.state <> 'open' AND OLD.data <> '{}')
EXECUTE FUNCTION harkara.forget_answered_escalation();

-- The erasure as it is by now, with this at its end. By its text, so that nothing of what others have added is lost.
DO $$
DECLARE
    definition text := pg_get_functiondef('harkara.erase_recipient'::regproc);
    ending     CONSTANT text := E'    RETURN true;\nEND\n';
BEGIN
    IF position(ending IN definition) = 0 THEN
        RAISE EXCEPTION 'harkara.erase_recipient does not end as it did';
    END IF;
    EXECUTE replace(definition, ending, E'    PERFORM harkara.erase_recipient_escalations(p_recipient);\n' || ending);
END
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.escalation_policies, harkara.escalations, harkara.escalation_steps,
                               harkara.escalation_notifications, harkara.escalation_acknowledgements}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
    END LOOP;
END
$$;

CREATE POLICY owner_erases ON harkara.escalations TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.escalation_notifications FOR SELECT TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.escalation_acknowledgements FOR SELECT TO harkara_owner
USING (tenant_id = (SELECT harkara.current_tenant()));

GRANT SELECT, INSERT, UPDATE, DELETE ON harkara.escalation_policies TO harkara_api;
GRANT SELECT, INSERT, UPDATE ON harkara.escalations TO harkara_api;
GRANT SELECT, INSERT ON harkara.escalation_steps, harkara.escalation_notifications, harkara.escalation_acknowledgements TO harkara_api;

CALL harkara.admit_worker('harkara.escalation_policies', 'SELECT');
-- An overdue deadline starts one.
CALL harkara.admit_worker('harkara.escalations', 'SELECT', 'INSERT', 'UPDATE');
CALL harkara.admit_worker('harkara.escalation_steps', 'SELECT', 'INSERT');
CALL harkara.admit_worker('harkara.escalation_notifications', 'SELECT', 'INSERT');
CALL harkara.admit_worker('harkara.escalation_acknowledgements', 'SELECT');

CALL harkara.audit_table('harkara.escalation_policies', 'policy_key');
CALL harkara.audit_table('harkara.escalations', 'escalation_id', 'data');
CALL harkara.audit_table('harkara.escalation_steps', 'escalation_id,repeat_number,level,tier');
CALL harkara.audit_table('harkara.escalation_notifications', 'notification_id');
CALL harkara.audit_table('harkara.escalation_acknowledgements', 'escalation_id,recipient_id');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
-- The trigger and the turn of an escalation ask them, as whoever is at it.
GRANT EXECUTE ON FUNCTION harkara.is_to_be_forgotten, harkara.waits_for_nobody TO harkara_api, harkara_worker;

RESET ROLE;
