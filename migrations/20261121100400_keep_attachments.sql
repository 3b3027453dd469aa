-- Files and invitations that leave with a mail.
-- Safe beside running code: the table is new, one column is empty and the other has a constant for its default, so that no
-- row is rewritten, and what old code hands to the functions they take as before. Notifications are not written for the
-- moment that their triggers take to be made anew.
SET LOCAL ROLE harkara_owner;

-- A file of a request. Its recipients share it: a notification names the files that leave with it, in order.
CREATE TABLE harkara.attachments (
    tenant_id     uuid        NOT NULL REFERENCES harkara.tenants,
    attachment_id uuid        NOT NULL,
    file_name     text        NOT NULL,
    content_type  text        NOT NULL,
    content       bytea       NOT NULL,
    -- The same as of the notifications that name it: one transaction stores both.
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, attachment_id),
    CONSTRAINT file_name_is_bounded CHECK (char_length(file_name) BETWEEN 1 AND 128),
    CONSTRAINT content_type_is_bounded CHECK (octet_length(content_type) BETWEEN 1 AND 78),
    CONSTRAINT content_is_bounded CHECK (octet_length(content) BETWEEN 1 AND 524288)
);

-- What people attach is compressed already.
ALTER TABLE harkara.attachments ALTER COLUMN content SET STORAGE EXTERNAL;

ALTER TABLE harkara.notifications
    ADD COLUMN attachments uuid[] NOT NULL DEFAULT '{}',
    -- An event that the mail invites to, as the request had it: wire::calendar.
    ADD COLUMN calendar jsonb;

-- The audit keeps nothing of what an event is about.
CALL harkara.audit_table_anew('harkara.notifications', 'notification_id',
                              'email,phone,name,subject,text_body,html_body,data,metadata,calendar');

CALL harkara.guard_table('harkara.attachments');
CREATE POLICY no_recipient_sees_it ON harkara.attachments AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()));
CREATE POLICY owner_erases ON harkara.attachments TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
GRANT SELECT, INSERT ON harkara.attachments TO harkara_api;
CALL harkara.admit_worker('harkara.attachments', 'SELECT');
CALL harkara.audit_table('harkara.attachments', 'attachment_id', 'file_name,content');

-- Stores accepted notifications with their deliveries and events, and the answer under its idempotency key: all or nothing.
-- As before, and with the ids of their attachments and their calendar entry, which old code does not name; and nothing is
-- stored for a recipient that is being erased.
--
-- p_notifications  rows of harkara.notifications with "deliveries": [{delivery_id, channel, state, max_attempts,
--                  unknown_policy, reconcile_window_seconds, not_before, due_at, publish_count}] and, where wanted, "dedupe": {key, seconds}
-- p_results        the answer, one entry for each asked notification: {id, status, …}
-- Returns {"answer", "stored_answer", "duplicates"}: `stored_answer` where the key was there already (nothing is stored
-- then); else `answer`, which is p_results with the winners' ids in place of those that a dedupe key turned away,
-- and the turned away ids.
CREATE OR REPLACE FUNCTION harkara.accept_notifications(
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
    v_recipients text[];
    v_found      bigint;
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

    -- Whoever erases one of them from now on waits until this is stored, and erases it, too. One who was erased since the
    -- caller looked gets nothing stored: the statement fails, and the caller tries the whole again.
    SELECT array_agg(DISTINCT n ->> 'recipient_id') INTO v_recipients
    FROM jsonb_array_elements(p_notifications) n
    WHERE n ->> 'recipient_id' IS NOT NULL AND NOT v_duplicates ? (n ->> 'notification_id');
    PERFORM FROM harkara.recipients r
    WHERE r.tenant_id = p_tenant AND r.recipient_id = ANY (v_recipients) AND r.erased_at IS NULL
    ORDER BY r.recipient_id FOR KEY SHARE;
    GET DIAGNOSTICS v_found = ROW_COUNT;
    IF v_found < cardinality(v_recipients) THEN
        RAISE EXCEPTION 'a recipient was erased' USING ERRCODE = 'foreign_key_violation';
    END IF;

    INSERT INTO harkara.notifications
        (tenant_id, notification_id, category_key, recipient_id, email, phone, name, locale, time_zone, template_key,
         subject, text_body, html_body, data, metadata, priority, sandbox, send_at, expires_at, traceparent,
         attachments, calendar)
    SELECT p_tenant, n.notification_id, n.category_key, n.recipient_id, n.email, n.phone, n.name, n.locale, n.time_zone,
           n.template_key, n.subject, n.text_body, n.html_body, n.data, n.metadata, n.priority, n.sandbox,
           n.send_at, n.expires_at, n.traceparent, coalesce(n.attachments, '{}'), n.calendar
    FROM jsonb_to_recordset(p_notifications) AS n(
        notification_id uuid, category_key text, recipient_id text, email text, phone text, name text, locale text,
        time_zone text, template_key text, subject text, text_body text, html_body text, data jsonb, metadata jsonb,
        priority text, sandbox boolean, send_at timestamptz, expires_at timestamptz, traceparent text,
        attachments uuid[], calendar jsonb)
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

-- Stores the files of what harkara.accept_notifications has just accepted, whose answer it hands through, each once.
-- What only notifications name that a stored answer or a dedupe key turned away is not stored.
CREATE FUNCTION harkara.keep_attachments(
    p_tenant        uuid,
    p_outcome       jsonb,
    p_attachments   uuid[],
    p_file_names    text[],
    p_content_types text[],
    p_contents      bytea[]
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    IF cardinality(p_attachments) = 0 OR p_outcome ? 'stored_answer' THEN
        RETURN p_outcome;
    END IF;
    INSERT INTO harkara.attachments (tenant_id, attachment_id, file_name, content_type, content)
    SELECT p_tenant, a.attachment_id, a.file_name, a.content_type, a.content
    FROM unnest(p_attachments, p_file_names, p_content_types, p_contents)
         AS a (attachment_id, file_name, content_type, content)
    WHERE a.attachment_id IN (
        SELECT unnest(n.attachments)
        FROM jsonb_array_elements(p_outcome -> 'answer') r
        JOIN harkara.notifications n ON n.tenant_id = p_tenant AND n.notification_id = (r ->> 'id')::uuid
        WHERE r ->> 'status' = 'accepted');
    RETURN p_outcome;
END
$$;

-- Erases what is known of a person and keeps that there was one: whoever must show later what happened still can, and
-- nobody can tell to whom. Open deliveries are withdrawn. A suppressed address stays suppressed, because it has to be
-- known to be left alone. Files that went to nobody else go, too, and so do answers that were kept for requests about the
-- recipient, and what a provider said: it quotes addresses. False where there is no such recipient.
-- SECURITY DEFINER: nobody else may change what was accepted or was consented to.
CREATE FUNCTION harkara.erase_recipient(p_recipient text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant  CONSTANT uuid := harkara.current_tenant();
    subject uuid;
    mailbox text;
BEGIN
    SELECT r.subject_id, lower(r.email) INTO subject, mailbox FROM harkara.recipients r
    WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient AND r.erased_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    WITH withdrawn AS (
        UPDATE harkara.deliveries d
        SET state = 'canceled', reason = 'recipient_erased', reason_detail = NULL, due_at = NULL, finished_at = now(),
            updated_at = now()
        FROM harkara.notifications n
        WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
          AND d.tenant_id = tenant AND d.notification_id = n.notification_id AND d.state IN ('scheduled', 'queued', 'held')
        RETURNING d AS whole, d.notification_id, d.state, d.reason, gen_random_uuid() AS event_id
    )
    INSERT INTO harkara.events (tenant_id, event_id, notification_id, detail_type, detail)
    SELECT tenant, w.event_id, w.notification_id, 'delivery.canceled',
           harkara.describe_delivery(w.event_id, w.whole, w.state, w.reason)
    FROM withdrawn w;
    -- Whoever else is being erased and has the same files waits here, and then sees that these are not used any more.
    PERFORM FROM harkara.attachments a
    WHERE a.tenant_id = tenant AND a.attachment_id IN (
        SELECT unnest(n.attachments) FROM harkara.notifications n WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient)
    ORDER BY a.attachment_id FOR UPDATE;
    -- What shares a file came with one request, and so at one time.
    DELETE FROM harkara.attachments a
    USING (SELECT DISTINCT unnest(n.attachments) AS attachment_id FROM harkara.notifications n
           WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient) used
    WHERE a.tenant_id = tenant AND a.attachment_id = used.attachment_id
      AND NOT EXISTS (
          SELECT FROM harkara.notifications o
          WHERE o.tenant_id = tenant AND o.created_at = a.created_at AND a.attachment_id = ANY (o.attachments)
            AND o.recipient_id IS DISTINCT FROM p_recipient);
    UPDATE harkara.notifications n
    SET data = '{}', metadata = '{}', attachments = '{}', calendar = NULL,
        subject = CASE WHEN n.subject IS NOT NULL THEN 'erased' END,
        text_body = CASE WHEN n.text_body IS NOT NULL THEN 'erased' END,
        html_body = CASE WHEN n.html_body IS NOT NULL THEN 'erased' END
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient;
    DELETE FROM harkara.preferences p WHERE p.tenant_id = tenant AND p.subject_id = subject;
    UPDATE harkara.consents c SET evidence = '{}' WHERE c.tenant_id = tenant AND c.subject_id = subject;
    DELETE FROM harkara.send_slots s WHERE s.tenant_id = tenant AND s.subject_id = subject;
    -- As wire::http names the route. Whoever adds an entry at this moment holds the recipient, so its answer is seen here.
    DELETE FROM harkara.idempotency_keys k
    WHERE k.tenant_id = tenant AND k.route = 'POST /v1/recipients/{id}/consents ' || p_recipient;
    DELETE FROM harkara.soft_bounces b WHERE b.tenant_id = tenant AND b.address = mailbox;
    UPDATE harkara.deliveries d SET reason_detail = NULL
    FROM harkara.notifications n
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
      AND d.tenant_id = tenant AND d.notification_id = n.notification_id AND d.reason_detail IS NOT NULL;
    UPDATE harkara.attempts a SET error_detail = NULL
    FROM harkara.notifications n
    JOIN harkara.deliveries d ON d.tenant_id = tenant AND d.notification_id = n.notification_id
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
      AND a.tenant_id = tenant AND a.delivery_id = d.delivery_id AND a.error_detail IS NOT NULL;
    UPDATE harkara.dead_letters l SET reason_detail = NULL
    FROM harkara.notifications n
    JOIN harkara.deliveries d ON d.tenant_id = tenant AND d.notification_id = n.notification_id
    WHERE n.tenant_id = tenant AND n.recipient_id = p_recipient
      AND l.tenant_id = tenant AND l.delivery_id = d.delivery_id AND l.reason_detail IS NOT NULL;
    UPDATE harkara.recipients r
    SET email = NULL, phone = NULL, name = NULL, locale = NULL, time_zone = NULL, roles = '{}', attributes = '{}',
        subject_id = gen_random_uuid(), erased_at = now(), updated_at = now()
    WHERE r.tenant_id = tenant AND r.recipient_id = p_recipient;
    RETURN true;
END
$$;

CREATE POLICY owner_erases ON harkara.idempotency_keys TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.soft_bounces TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.dead_letters TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));
CREATE POLICY owner_erases ON harkara.attempts TO harkara_owner USING (tenant_id = (SELECT harkara.current_tenant()));

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.keep_attachments, harkara.erase_recipient TO harkara_api;

RESET ROLE;
