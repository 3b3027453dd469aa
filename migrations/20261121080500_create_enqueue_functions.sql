SET LOCAL ROLE harkara_owner;

-- The two statements of enqueue. Each is one call and so one round trip and one transaction:
-- it sets the tenant and works within it. They look up and store; what is allowed is decided between them, in domain.

-- What a request's decisions need, in one answer.
CREATE FUNCTION harkara.read_enqueue_context(
    p_tenant          uuid,
    p_route           text,
    p_idempotency_key text,
    p_recipients      text[],
    p_categories      text[],
    p_templates       text[]
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.set_tenant(p_tenant);
    RETURN (
        SELECT jsonb_build_object(
            'now', now(),
            'tenant_state', (SELECT t.state FROM harkara.tenants t WHERE t.tenant_id = p_tenant),
            -- The answer to an earlier request with this key.
            'stored_answer', (
                SELECT jsonb_build_object(
                    'request_hash', encode(k.request_hash, 'hex'), 'request_id', k.request_id, 'answer', k.answer)
                FROM harkara.idempotency_keys k
                WHERE k.tenant_id = p_tenant AND k.route = p_route AND k.idempotency_key = p_idempotency_key
                  AND k.expires_at > now()),
            'recipients', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'recipient_id', r.recipient_id, 'has_email', r.email IS NOT NULL, 'has_phone', r.phone IS NOT NULL)), '[]')
                FROM harkara.recipients r
                WHERE r.tenant_id = p_tenant AND r.recipient_id = ANY (p_recipients)),
            'categories', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'category_key', c.category_key, 'channels', c.channels,
                    'template_key', c.template_key, 'max_attempts', c.max_attempts,
                    'unknown_policy', c.unknown_policy, 'reconcile_window_seconds', c.reconcile_window_seconds)), '[]')
                FROM harkara.categories c
                WHERE c.tenant_id = p_tenant AND c.category_key = ANY (p_categories)),
            'templates', (
                SELECT coalesce(jsonb_agg(t.template_key), '[]')
                FROM harkara.templates t
                WHERE t.tenant_id = p_tenant AND t.template_key = ANY (p_templates))
        )
    );
END
$$;

-- Stores accepted notifications with their deliveries and events, and the answer under its idempotency key: all or nothing.
--
-- p_notifications  rows of harkara.notifications with "deliveries": [{delivery_id, channel, state, max_attempts,
--                  unknown_policy, reconcile_window_seconds, not_before, due_at, publish_count}] and, where wanted, "dedupe": {key, seconds}
-- p_results        the answer, one entry for each asked notification: {id, status, …}
-- Returns {"answer", "stored_answer", "duplicates"}: `stored_answer` where the key was there already (nothing is stored
-- then); else `answer`, which is p_results with the winners' ids in place of those that a dedupe key turned away,
-- and the turned away ids.
CREATE FUNCTION harkara.accept_notifications(
    p_tenant          uuid,
    p_actor           text,
    p_route           text,
    p_idempotency_key text,
    p_request_hash    bytea,
    p_request_id      text,
    p_notifications   jsonb,
    p_results         jsonb
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    v_duplicates jsonb;
    v_answer     jsonb;
    v_stored     jsonb;
BEGIN
    PERFORM harkara.set_tenant(p_tenant, p_actor);

    -- The key comes first: a second request with it waits here for the first, then finds its answer.
    IF p_idempotency_key IS NOT NULL THEN
        INSERT INTO harkara.idempotency_keys AS k
            (tenant_id, route, idempotency_key, request_hash, request_id, answer, expires_at)
        VALUES (p_tenant, p_route, p_idempotency_key, p_request_hash, p_request_id, p_results, now() + interval '24 hours')
        ON CONFLICT (tenant_id, route, idempotency_key) DO UPDATE
            SET request_hash = excluded.request_hash, request_id = excluded.request_id, answer = excluded.answer,
                created_at = now(), expires_at = excluded.expires_at
            WHERE k.expires_at <= now();
        IF NOT FOUND THEN
            SELECT jsonb_build_object(
                'request_hash', encode(k.request_hash, 'hex'), 'request_id', k.request_id, 'answer', k.answer)
            INTO v_stored
            FROM harkara.idempotency_keys k
            WHERE k.tenant_id = p_tenant AND k.route = p_route AND k.idempotency_key = p_idempotency_key;
            RETURN jsonb_build_object('stored_answer', v_stored, 'duplicates', '[]'::jsonb);
        END IF;
    END IF;

    -- Locks each living dedupe key that another notification holds; what is found is a duplicate.
    -- New keys are taken below, and a request that loses that race waits there and fails on the key, to be retried.
    SELECT coalesce(jsonb_object_agg(n ->> 'notification_id', held.notification_id), '{}')
    INTO v_duplicates
    FROM (
        -- In the keys' order, as below: two requests with the same keys then wait for each other and do not deadlock.
        SELECT e.n FROM jsonb_array_elements(p_notifications) AS e(n) ORDER BY e.n #>> '{dedupe,key}'
    ) AS ordered(n)
    CROSS JOIN LATERAL (
        SELECT k.notification_id FROM harkara.dedupe_keys k
        WHERE k.tenant_id = p_tenant AND k.dedupe_key = n #>> '{dedupe,key}' AND k.expires_at > now()
        FOR UPDATE
    ) held;

    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, recipient_id, email, phone, name, locale, time_zone, template_key,
         subject, text_body, html_body, data, metadata, priority, sandbox, send_at, expires_at, traceparent)
    SELECT p_tenant, n.notification_id, n.category_key, n.recipient_id, n.email, n.phone, n.name, n.locale, n.time_zone,
           n.template_key, n.subject, n.text_body, n.html_body, n.data, n.metadata, n.priority, n.sandbox,
           n.send_at, n.expires_at, n.traceparent
    FROM jsonb_to_recordset(p_notifications) AS n(
        notification_id uuid, category_key text, recipient_id text, email text, phone text, name text, locale text,
        time_zone text, template_key text, subject text, text_body text, html_body text, data jsonb, metadata jsonb,
        priority text, sandbox boolean, send_at timestamptz, expires_at timestamptz, traceparent text)
    WHERE NOT v_duplicates ? n.notification_id::text;

    -- An expired key passes to the new notification. A living one that appeared since the look above ends the
    -- statement with a unique violation, and the caller tries the whole again.
    DELETE FROM harkara.dedupe_keys k
    USING jsonb_array_elements(p_notifications) n
    WHERE k.tenant_id = p_tenant AND k.dedupe_key = n #>> '{dedupe,key}' AND k.expires_at <= now();

    INSERT INTO harkara.dedupe_keys (tenant_id, dedupe_key, notification_id, expires_at)
    SELECT p_tenant, n #>> '{dedupe,key}', (n ->> 'notification_id')::uuid,
           now() + make_interval(secs => (n #>> '{dedupe,seconds}')::integer)
    FROM jsonb_array_elements(p_notifications) n
    WHERE n -> 'dedupe' IS NOT NULL AND NOT v_duplicates ? (n ->> 'notification_id')
    ORDER BY n #>> '{dedupe,key}';

    INSERT INTO harkara.deliveries
        (tenant_id, delivery_id, notification_id, channel, state, max_attempts, unknown_policy,
         reconcile_window_seconds, not_before, due_at, publish_count)
    SELECT p_tenant, d.delivery_id, (n ->> 'notification_id')::uuid, d.channel, d.state, d.max_attempts,
           d.unknown_policy, d.reconcile_window_seconds, d.not_before, d.due_at, d.publish_count
    FROM jsonb_array_elements(p_notifications) n
    CROSS JOIN LATERAL jsonb_to_recordset(n -> 'deliveries') AS d(
        delivery_id uuid, channel text, state text, max_attempts integer, unknown_policy text,
        reconcile_window_seconds integer,
        not_before timestamptz, due_at timestamptz, publish_count integer)
    WHERE NOT v_duplicates ? (n ->> 'notification_id');

    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT p_tenant, (n ->> 'event_id')::uuid, (n ->> 'notification_id')::uuid, 'notification.accepted', n -> 'event'
    FROM jsonb_array_elements(p_notifications) n
    WHERE NOT v_duplicates ? (n ->> 'notification_id');

    -- The answer names the winner of each dedupe key.
    SELECT coalesce(jsonb_agg(
        CASE WHEN v_duplicates ? (r ->> 'id')
             THEN r || jsonb_build_object('id', v_duplicates ->> (r ->> 'id'), 'status', 'duplicate')
             ELSE r END ORDER BY position), '[]')
    INTO v_answer
    FROM jsonb_array_elements(p_results) WITH ORDINALITY AS e(r, position);

    IF p_idempotency_key IS NOT NULL AND v_duplicates <> '{}' THEN
        UPDATE harkara.idempotency_keys k SET answer = v_answer
        WHERE k.tenant_id = p_tenant AND k.route = p_route AND k.idempotency_key = p_idempotency_key;
    END IF;

    RETURN jsonb_build_object(
        'answer', v_answer,
        'duplicates', (SELECT coalesce(jsonb_agg(d), '[]') FROM jsonb_object_keys(v_duplicates) d));
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.read_enqueue_context, harkara.accept_notifications TO harkara_api;
GRANT DELETE ON harkara.dedupe_keys TO harkara_api;

RESET ROLE;
