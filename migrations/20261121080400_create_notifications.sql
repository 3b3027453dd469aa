SET LOCAL ROLE harkara_owner;

-- One request to tell one recipient one thing. Never changed after it was accepted.
CREATE TABLE harkara.notifications (
    tenant_id       uuid        NOT NULL,
    notification_id uuid        NOT NULL,
    category_key    text        NOT NULL,
    -- A known recipient, or NULL and the address given inline.
    recipient_id    text,
    email           text,
    phone           text,
    name            text,
    locale          text,
    time_zone       text,
    -- The template asked for by the request, else the category's at the time it was accepted; NULL with inline content.
    template_key    text,
    subject         text,
    text_body       text,
    html_body       text,
    data            jsonb       NOT NULL DEFAULT '{}',
    metadata        jsonb       NOT NULL DEFAULT '{}',
    priority        text        NOT NULL DEFAULT 'normal',
    sandbox         boolean     NOT NULL DEFAULT false,
    send_at         timestamptz NOT NULL,
    expires_at      timestamptz,
    traceparent     text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, notification_id),
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories,
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    FOREIGN KEY (tenant_id, template_key) REFERENCES harkara.templates,
    CONSTRAINT recipient_is_known_or_inline CHECK ((recipient_id IS NULL) = (email IS NOT NULL OR phone IS NOT NULL)),
    CONSTRAINT content_is_template_or_inline CHECK (template_key IS NOT NULL OR (subject IS NOT NULL AND (text_body IS NOT NULL OR html_body IS NOT NULL))),
    CONSTRAINT priority_is_known CHECK (priority IN ('critical', 'high', 'normal', 'low')),
    CONSTRAINT expiry_is_after_sending CHECK (expires_at > send_at)
);

CREATE INDEX notifications_by_time ON harkara.notifications (tenant_id, created_at, notification_id);
CREATE INDEX notifications_by_recipient ON harkara.notifications (tenant_id, recipient_id, created_at, notification_id);
CREATE INDEX notifications_by_category ON harkara.notifications (tenant_id, category_key, created_at, notification_id);

-- One notification on one channel, and the state of it.
CREATE TABLE harkara.deliveries (
    tenant_id       uuid        NOT NULL,
    delivery_id     uuid        NOT NULL,
    notification_id uuid        NOT NULL,
    channel         text        NOT NULL,
    state           text        NOT NULL,
    -- Why it is in this state: a code of domain::Reason.
    reason          text,
    -- What the provider or the renderer said, for people.
    reason_detail   text,
    -- The number of the latest attempt; raised only by a claim, never lowered. It fences every later write.
    attempt_count   integer     NOT NULL DEFAULT 0,
    -- Attempts that do not count against max_attempts: held, throttled, or before a redrive.
    uncounted_attempt_count integer NOT NULL DEFAULT 0,
    -- These three are copied from the category, so that a running delivery keeps the rules that it began with.
    max_attempts    integer     NOT NULL,
    unknown_policy  text        NOT NULL DEFAULT 'at_least_once',
    reconcile_window_seconds integer NOT NULL DEFAULT 600,
    -- No attempt may begin earlier.
    not_before      timestamptz NOT NULL,
    -- When the dispatcher has to look at it: to publish (again), to end a lease, to settle.
    -- Every open delivery has one, so nothing open lacks a next step.
    due_at          timestamptz,
    -- How often it was published without being claimed; spaces the republishing out.
    publish_count   integer     NOT NULL DEFAULT 0,
    provider_message_id text,
    sent_at         timestamptz,
    finished_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES harkara.notifications,
    UNIQUE (tenant_id, notification_id, channel),
    CONSTRAINT channel_is_known CHECK (channel IN ('email')),
    CONSTRAINT state_is_known CHECK (state IN (
        'scheduled', 'queued', 'sending', 'held', 'unknown', 'sent', 'delivered', 'bounced', 'complained',
        'skipped', 'canceled', 'expired', 'failed', 'dead', 'absorbed')),
    CONSTRAINT unknown_policy_is_known CHECK (unknown_policy IN ('at_least_once', 'at_most_once')),
    CONSTRAINT reconcile_window_is_bounded CHECK (reconcile_window_seconds BETWEEN 0 AND 86400),
    -- A dead delivery is due while its message is not in the dead-letter queue yet.
    CONSTRAINT open_delivery_is_due CHECK (
        state = 'dead' OR (state IN ('scheduled', 'queued', 'sending', 'held', 'unknown')) = (due_at IS NOT NULL)),
    CONSTRAINT sent_delivery_has_a_send_time CHECK (
        (state IN ('sent', 'delivered', 'bounced', 'complained')) = (sent_at IS NOT NULL)),
    CONSTRAINT ended_delivery_has_an_end_time CHECK (
        (state IN ('delivered', 'bounced', 'complained', 'skipped', 'canceled', 'expired', 'failed', 'dead', 'absorbed'))
        = (finished_at IS NOT NULL)),
    CONSTRAINT unsuccessful_delivery_has_a_reason CHECK (
        (state IN ('held', 'unknown', 'bounced', 'complained', 'skipped', 'canceled', 'expired', 'failed', 'dead', 'absorbed'))
        = (reason IS NOT NULL)),
    CONSTRAINT uncounted_attempts_were_made CHECK (uncounted_attempt_count BETWEEN 0 AND attempt_count),
    CONSTRAINT attempts_are_bounded CHECK (attempt_count - uncounted_attempt_count <= max_attempts),
    CONSTRAINT sending_delivery_has_an_attempt CHECK (state <> 'sending' OR attempt_count > 0)
)
-- Each delivery is written at least three times in its first second, so the dead rows go early.
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- All of the dispatcher's work, and only that: history is not in it.
CREATE INDEX deliveries_due ON harkara.deliveries (due_at) WHERE due_at IS NOT NULL;

-- What people look for by state. What is open is found by its due time, and what was sent is nearly everything.
CREATE INDEX deliveries_gone_wrong ON harkara.deliveries (tenant_id, state, notification_id)
WHERE state IN ('held', 'unknown', 'bounced', 'complained', 'skipped', 'canceled', 'expired', 'failed', 'dead', 'absorbed');

-- The same table as domain::DeliveryState::may_become; a test compares them.
CREATE FUNCTION harkara.may_become(old_state text, new_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE old_state
    WHEN 'scheduled' THEN new_state IN ('queued', 'held', 'skipped', 'canceled', 'expired', 'absorbed')
    WHEN 'queued'    THEN new_state IN ('sending', 'held', 'skipped', 'canceled', 'expired', 'dead', 'absorbed')
    WHEN 'held'      THEN new_state IN ('queued', 'sending', 'skipped', 'canceled', 'expired', 'dead', 'absorbed')
    WHEN 'sending'   THEN new_state IN ('sent', 'queued', 'held', 'unknown', 'skipped', 'expired', 'failed', 'dead')
    WHEN 'unknown'   THEN new_state IN ('sent', 'delivered', 'bounced', 'complained', 'queued', 'failed', 'dead')
    WHEN 'sent'      THEN new_state IN ('delivered', 'bounced', 'complained')
    WHEN 'delivered' THEN new_state IN ('bounced', 'complained')
    WHEN 'bounced'   THEN new_state IN ('complained')
    WHEN 'dead'      THEN new_state IN ('queued')
    ELSE false
END;

CREATE FUNCTION harkara.check_transition() RETURNS trigger
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
    RETURN NEW;
END
$$;

CREATE TRIGGER delivery_moves_forward BEFORE UPDATE ON harkara.deliveries
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state OR NEW.attempt_count < OLD.attempt_count) EXECUTE FUNCTION harkara.check_transition();

-- One provider call for a delivery. Opened by the claim, closed by the record.
CREATE TABLE harkara.attempts (
    tenant_id       uuid        NOT NULL,
    attempt_id      uuid        NOT NULL,
    delivery_id     uuid        NOT NULL,
    attempt_number  integer     NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    outcome         text,
    -- The provider's own code and words.
    error_code      text,
    error_detail    text,
    provider_message_id text,
    template_key    text,
    template_locale text,
    template_version integer,
    PRIMARY KEY (tenant_id, attempt_id, started_at),
    CONSTRAINT attempt_number_is_positive CHECK (attempt_number > 0),
    CONSTRAINT outcome_is_known CHECK (outcome IN (
        'sent', 'sandboxed', 'not_sent', 'transient', 'throttled', 'held', 'rejected', 'unknown')),
    CONSTRAINT finished_attempt_has_an_outcome CHECK ((finished_at IS NULL) = (outcome IS NULL))
) PARTITION BY RANGE (started_at);

CREATE TABLE harkara.attempts_default PARTITION OF harkara.attempts DEFAULT;
CREATE INDEX attempts_by_delivery ON harkara.attempts (tenant_id, delivery_id, attempt_number);

-- A key of the tenant's own that lets one notification through in its window.
CREATE TABLE harkara.dedupe_keys (
    tenant_id       uuid        NOT NULL,
    dedupe_key      text        NOT NULL,
    notification_id uuid        NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, dedupe_key),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES harkara.notifications
);

-- The answer to a request, kept for the next one with the same key.
CREATE TABLE harkara.idempotency_keys (
    tenant_id       uuid        NOT NULL REFERENCES harkara.tenants,
    route           text        NOT NULL,
    idempotency_key text        NOT NULL,
    request_hash    bytea       NOT NULL,
    request_id      text        NOT NULL,
    answer          jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, route, idempotency_key)
);

-- The outbox: events of committed changes that are not on the bus yet. A published event is deleted.
CREATE TABLE harkara.events (
    tenant_id       uuid        NOT NULL,
    event_id        uuid        NOT NULL,
    notification_id uuid        NOT NULL,
    detail_type     text        NOT NULL,
    detail          jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, event_id)
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX events_by_notification ON harkara.events (tenant_id, notification_id);
CREATE INDEX events_by_time ON harkara.events (created_at);

-- What came to the dead-letter queue, and why.
CREATE TABLE harkara.dead_letters (
    tenant_id        uuid        NOT NULL REFERENCES harkara.tenants,
    dead_letter_id   uuid        NOT NULL,
    -- The message's id; a second receive of the same message is the same dead letter.
    queue_message_id text        NOT NULL,
    delivery_id      uuid,
    body             text        NOT NULL,
    reason           text        NOT NULL,
    reason_detail    text,
    receive_count    integer     NOT NULL,
    first_sent_at    timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    redriven_at      timestamptz,
    PRIMARY KEY (tenant_id, dead_letter_id),
    UNIQUE (tenant_id, queue_message_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES harkara.deliveries
);

-- One death is one dead letter, however often its message was buried.
CREATE UNIQUE INDEX dead_letters_of_a_delivery ON harkara.dead_letters (tenant_id, delivery_id, reason)
WHERE redriven_at IS NULL;

CREATE INDEX dead_letters_by_time ON harkara.dead_letters (tenant_id, created_at, dead_letter_id);

-- What an event says of a delivery that moved on without an attempt; the processor's events say the same.
CREATE FUNCTION harkara.describe_delivery(
    p_event uuid, p_delivery harkara.deliveries, p_state text, p_reason text
) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object(
        'event_id', 'evt_' || replace(p_event::text, '-', ''),
        'tenant_id', n.tenant_id,
        'notification_id', 'ntf_' || replace(n.notification_id::text, '-', ''),
        'delivery_id', 'dlv_' || replace(p_delivery.delivery_id::text, '-', ''),
        'category', n.category_key, 'recipient', n.recipient_id, 'channel', p_delivery.channel,
        'state', p_state, 'reason', p_reason, 'attempt', p_delivery.attempt_count,
        'provider_message_id', p_delivery.provider_message_id, 'metadata', n.metadata)
    FROM harkara.notifications n
    WHERE n.tenant_id = p_delivery.tenant_id AND n.notification_id = p_delivery.notification_id
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.notifications, harkara.deliveries, harkara.attempts, harkara.attempts_default,
                               harkara.dedupe_keys, harkara.idempotency_keys, harkara.events, harkara.dead_letters}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
    END LOOP;
END
$$;

GRANT SELECT, INSERT ON harkara.notifications TO harkara_api;
GRANT SELECT, INSERT, UPDATE ON harkara.dedupe_keys, harkara.idempotency_keys TO harkara_api;
-- To cancel and to redrive; what an attempt wrote is not the API's to change.
GRANT SELECT, INSERT, UPDATE (state, reason, reason_detail, uncounted_attempt_count, not_before, due_at, publish_count,
    finished_at, updated_at) ON harkara.deliveries TO harkara_api;
GRANT SELECT ON harkara.attempts TO harkara_api;
GRANT SELECT, INSERT ON harkara.events TO harkara_api;
GRANT SELECT, UPDATE (redriven_at) ON harkara.dead_letters TO harkara_api;

CALL harkara.admit_worker('harkara.notifications', 'SELECT');
CALL harkara.admit_worker('harkara.deliveries', 'SELECT', 'UPDATE');
CALL harkara.admit_worker('harkara.attempts', 'SELECT', 'INSERT', 'UPDATE');
CALL harkara.admit_worker('harkara.events', 'SELECT', 'INSERT', 'DELETE');
CALL harkara.admit_worker('harkara.dead_letters', 'SELECT', 'INSERT');

CALL harkara.audit_table('harkara.notifications', 'notification_id', 'email,phone,name,subject,text_body,html_body,data,metadata');
CALL harkara.audit_table('harkara.deliveries', 'delivery_id', 'reason_detail');
CALL harkara.audit_table('harkara.attempts', 'attempt_id', 'error_detail');
CALL harkara.audit_table('harkara.dedupe_keys', 'dedupe_key');
CALL harkara.audit_table('harkara.idempotency_keys', 'route,idempotency_key', 'answer,request_hash');
CALL harkara.audit_table('harkara.events', 'event_id', 'detail');
CALL harkara.audit_table('harkara.dead_letters', 'dead_letter_id', 'body,reason_detail');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.set_tenant, harkara.current_tenant, harkara.current_actor, harkara.may_become,
    harkara.describe_delivery
    TO harkara_api, harkara_worker;

CALL harkara.make_partitions('harkara.attempts', 12);

RESET ROLE;
