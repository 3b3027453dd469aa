-- Batches and debounces: notifications that wait for others and leave with them as one message.
-- Safe beside running code: the tables are new, old code asks for no collection, and what it stores is in none.
SET LOCAL ROLE harkara_owner;

-- Notifications of one key that wait for each other. `enqueue` opens it with the first and adds the others; `dispatcher`
-- closes it at its time, in the transaction that stores the message.
CREATE TABLE harkara.collections (
    tenant_id        uuid        NOT NULL REFERENCES harkara.tenants,
    -- The id of its first notification.
    collection_id    uuid        NOT NULL,
    kind             text        NOT NULL,
    category_key     text        NOT NULL,
    -- The known recipient; NULL where the address was given inline.
    recipient_id     text,
    -- The caller's key, and a digest of whom it is for.
    collection_key   text        NOT NULL,
    -- What reaches nobody and what reaches somebody do not meet in one message.
    sandbox          boolean     NOT NULL,
    member_count     integer     NOT NULL,
    -- When the dispatcher has to close it; every open collection has one, so nothing collected lacks a next step.
    due_at           timestamptz,
    -- No debounce moves due_at beyond it.
    latest_at        timestamptz NOT NULL,
    closed_at        timestamptz,
    -- What came of it.
    outcome          text,
    -- The message, and how many members left in it.
    notification_id  uuid,
    absorbed_count   integer,
    created_at       timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, collection_id),
    FOREIGN KEY (tenant_id, category_key) REFERENCES harkara.categories,
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES harkara.recipients,
    CONSTRAINT collection_kind_is_known CHECK (kind IN ('batch', 'debounce')),
    CONSTRAINT collection_outcome_is_known CHECK (outcome IN ('message', 'members', 'nothing')),
    CONSTRAINT collection_has_members CHECK (member_count > 0),
    CONSTRAINT open_collection_is_due CHECK ((closed_at IS NULL) = (due_at IS NOT NULL)),
    CONSTRAINT closed_collection_has_an_outcome CHECK ((closed_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT message_is_named CHECK ((outcome IS NOT DISTINCT FROM 'message') = (notification_id IS NOT NULL)),
    CONSTRAINT message_is_counted CHECK ((notification_id IS NULL) = (absorbed_count IS NULL))
);

-- Requests at the same instant meet here: whoever comes second waits for the first and joins its collection, and whoever
-- finds it closed when the wait ends opens the next one.
CREATE UNIQUE INDEX one_open_collection_for_a_key
ON harkara.collections (tenant_id, kind, category_key, collection_key, sandbox) WHERE closed_at IS NULL;

-- All of the dispatcher's work, and only that.
CREATE INDEX collections_due ON harkara.collections (tenant_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX collections_by_message ON harkara.collections (tenant_id, notification_id) WHERE notification_id IS NOT NULL;

-- The notifications of a collection, in the order in which they came.
CREATE TABLE harkara.collection_members (
    tenant_id       uuid    NOT NULL,
    notification_id uuid    NOT NULL,
    collection_id   uuid    NOT NULL,
    position        integer NOT NULL,
    PRIMARY KEY (tenant_id, notification_id),
    -- Whoever deletes what is old deletes either first.
    FOREIGN KEY (tenant_id, notification_id) REFERENCES harkara.notifications ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, collection_id) REFERENCES harkara.collections ON DELETE CASCADE,
    CONSTRAINT position_is_positive CHECK (position > 0)
);

CREATE UNIQUE INDEX members_by_position ON harkara.collection_members (tenant_id, collection_id, position);

-- Puts what harkara.accept_notifications has just accepted, whose answer it hands through, into its collections.
-- What a stored answer or a dedupe key turned away joins none.
--
-- A batch keeps the time that its first notification set; a debounce begins its wait again, up to its cap, and what waited
-- until now is replaced. The rows of the collections are locked until the caller's transaction ends, in the order of their
-- keys, so that no member can come to a collection that is being closed, and two requests cannot wait for each other.
--
-- p_members  {notification_id, kind, category_key, recipient_id, collection_key, sandbox, window_seconds, max_seconds}
CREATE FUNCTION harkara.collect_members(p_tenant uuid, p_outcome jsonb, p_members jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
DECLARE
    -- One that holds so many closes at once, so that closing it stays one short transaction.
    full_at CONSTANT integer := 10000;
    clock   timestamptz;
BEGIN
    IF p_members = '[]' OR p_outcome ? 'stored_answer' THEN
        RETURN p_outcome;
    END IF;
    clock := harkara.clock();
    WITH asked AS (
        SELECT e.place, m.*
        FROM jsonb_array_elements(p_members) WITH ORDINALITY AS e (member, place)
        CROSS JOIN LATERAL jsonb_to_record(e.member) AS m (
            notification_id uuid, kind text, category_key text, recipient_id text, collection_key text, sandbox boolean,
            window_seconds integer, max_seconds integer)
        WHERE NOT p_outcome -> 'duplicates' ? m.notification_id::text
    ),
    -- One for each collection: opened as its first member wants it, and moved as its last one does.
    wanted AS (
        SELECT a.kind, a.category_key, a.collection_key, a.sandbox, min(a.recipient_id) AS recipient_id,
               count(*)::integer AS asked_count,
               (array_agg(a.notification_id ORDER BY a.place))[1] AS first_id,
               (array_agg(a.max_seconds ORDER BY a.place))[1] AS max_seconds,
               (array_agg(a.window_seconds ORDER BY a.place DESC))[1] AS last_window_seconds
        FROM asked a
        GROUP BY a.kind, a.category_key, a.collection_key, a.sandbox
    ),
    joined AS (
        INSERT INTO harkara.collections AS c
            (tenant_id, collection_id, kind, category_key, recipient_id, collection_key, sandbox, member_count, due_at, latest_at)
        SELECT p_tenant, w.first_id, w.kind, w.category_key, w.recipient_id, w.collection_key, w.sandbox, w.asked_count,
               clock + make_interval(secs => CASE w.kind WHEN 'batch' THEN w.max_seconds ELSE least(w.last_window_seconds, w.max_seconds) END),
               clock + make_interval(secs => w.max_seconds)
        FROM wanted w
        ORDER BY w.kind, w.category_key, w.collection_key, w.sandbox
        ON CONFLICT (tenant_id, kind, category_key, collection_key, sandbox) WHERE closed_at IS NULL DO UPDATE
            SET member_count = c.member_count + excluded.member_count,
                due_at = least(
                    CASE c.kind WHEN 'batch' THEN c.due_at
                         -- The wait of its last one, counted from behind the lock.
                         ELSE least(c.latest_at, harkara.clock() + (excluded.due_at - clock)) END,
                    CASE WHEN c.member_count + excluded.member_count >= full_at THEN harkara.clock() END)
        RETURNING c.collection_id, c.kind, c.category_key, c.collection_key, c.sandbox, c.member_count
    )
    INSERT INTO harkara.collection_members (tenant_id, notification_id, collection_id, position)
    SELECT p_tenant, a.notification_id, j.collection_id,
           j.member_count - w.asked_count + row_number() OVER (PARTITION BY j.collection_id ORDER BY a.place)
    FROM asked a
    JOIN wanted w USING (kind, category_key, collection_key, sandbox)
    JOIN joined j USING (kind, category_key, collection_key, sandbox);

    -- At most one of a debounce waits: the last. Those before the last one of earlier were replaced when it came.
    WITH come AS (
        SELECT m.collection_id, min(m.position) AS first_position, max(m.position) AS last_position
        FROM jsonb_to_recordset(p_members) AS p (notification_id uuid)
        JOIN harkara.collection_members m ON m.tenant_id = p_tenant AND m.notification_id = p.notification_id
        JOIN harkara.collections c ON c.tenant_id = p_tenant AND c.collection_id = m.collection_id AND c.kind = 'debounce'
        GROUP BY m.collection_id
    )
    UPDATE harkara.deliveries d
    SET state = 'absorbed', reason = 'replaced_by_later', reason_detail = NULL, due_at = NULL, finished_at = harkara.now(),
        updated_at = harkara.now()
    FROM come
    JOIN harkara.collection_members m
        ON m.tenant_id = p_tenant AND m.collection_id = come.collection_id
       AND m.position >= come.first_position - 1 AND m.position < come.last_position
    WHERE d.tenant_id = p_tenant AND d.notification_id = m.notification_id AND d.state IN ('scheduled', 'queued', 'held');
    RETURN p_outcome;
END
$$;

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.collections, harkara.collection_members}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        EXECUTE format('CREATE POLICY no_recipient_sees_it ON %s AS RESTRICTIVE TO harkara_api
                        USING ((SELECT harkara.sees_all_recipients()))', guarded);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE (member_count, due_at) ON harkara.collections TO harkara_api;
GRANT SELECT, INSERT ON harkara.collection_members TO harkara_api;
CALL harkara.admit_worker('harkara.collections', 'SELECT', 'INSERT', 'UPDATE');
CALL harkara.admit_worker('harkara.collection_members', 'SELECT', 'INSERT');

CALL harkara.audit_table('harkara.collections', 'collection_id');
CALL harkara.audit_table('harkara.collection_members', 'notification_id');

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA harkara FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.collect_members TO harkara_api, harkara_worker;

RESET ROLE;
