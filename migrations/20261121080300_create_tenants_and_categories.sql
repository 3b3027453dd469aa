SET LOCAL ROLE harkara_owner;

CREATE TABLE harkara.tenants (
    tenant_id    uuid        PRIMARY KEY,
    name         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'active',
    -- The sender of this tenant's mail; NULL means the deployment's own.
    from_address text,
    from_name    text,
    -- What a recipient without a locale or zone of its own gets.
    locale       text        NOT NULL DEFAULT 'en',
    time_zone    text        NOT NULL DEFAULT 'UTC',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT state_is_known CHECK (state IN ('active', 'suspended')),
    CONSTRAINT name_is_not_empty CHECK (name <> '')
);

CREATE TABLE harkara.recipients (
    tenant_id    uuid        NOT NULL REFERENCES harkara.tenants,
    recipient_id text        NOT NULL,
    email        text,
    phone        text,
    name         text,
    locale       text,
    time_zone    text,
    roles        text[]      NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, recipient_id),
    CONSTRAINT recipient_has_an_address CHECK (email IS NOT NULL OR phone IS NOT NULL)
);

-- A template is a key; its content is in versions, one line of them for each channel and locale.
CREATE TABLE harkara.templates (
    tenant_id    uuid        NOT NULL REFERENCES harkara.tenants,
    template_key text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, template_key)
);

-- Versions are never changed: what was sent can be shown later by its number.
CREATE TABLE harkara.template_versions (
    tenant_id    uuid        NOT NULL,
    template_key text        NOT NULL,
    channel      text        NOT NULL,
    locale       text        NOT NULL,
    version      integer     NOT NULL,
    subject      text        NOT NULL,
    text_body    text,
    html_body    text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, template_key, channel, locale, version),
    FOREIGN KEY (tenant_id, template_key) REFERENCES harkara.templates,
    CONSTRAINT channel_is_known CHECK (channel IN ('email')),
    CONSTRAINT version_is_positive CHECK (version > 0),
    CONSTRAINT version_has_a_body CHECK (text_body IS NOT NULL OR html_body IS NOT NULL)
);

CREATE TABLE harkara.categories (
    tenant_id                uuid        NOT NULL REFERENCES harkara.tenants,
    category_key             text        NOT NULL,
    class                    text        NOT NULL,
    channels                 text[]      NOT NULL DEFAULT '{email}',
    template_key             text,
    max_attempts             integer     NOT NULL DEFAULT 3,
    unknown_policy           text        NOT NULL DEFAULT 'at_least_once',
    reconcile_window_seconds integer     NOT NULL DEFAULT 600,
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, category_key),
    FOREIGN KEY (tenant_id, template_key) REFERENCES harkara.templates,
    CONSTRAINT class_is_known CHECK (class IN ('transactional', 'security', 'regulatory', 'marketing', 'reminder', 'digest')),
    CONSTRAINT channels_are_known CHECK (channels <@ '{email}' AND cardinality(channels) > 0),
    CONSTRAINT max_attempts_is_bounded CHECK (max_attempts BETWEEN 1 AND 8),
    CONSTRAINT unknown_policy_is_known CHECK (unknown_policy IN ('at_least_once', 'at_most_once')),
    CONSTRAINT reconcile_window_is_bounded CHECK (reconcile_window_seconds BETWEEN 0 AND 86400)
);

DO $$
DECLARE
    guarded regclass;
BEGIN
    FOREACH guarded IN ARRAY '{harkara.tenants, harkara.recipients, harkara.templates, harkara.template_versions, harkara.categories}'::regclass[] LOOP
        CALL harkara.guard_table(guarded);
        CALL harkara.admit_worker(guarded, 'SELECT');
    END LOOP;
END
$$;

GRANT SELECT ON harkara.tenants TO harkara_api;
GRANT SELECT, INSERT, UPDATE ON harkara.recipients, harkara.categories, harkara.templates TO harkara_api;
GRANT SELECT, INSERT ON harkara.template_versions TO harkara_api;

-- Tenants are made at deploy time by the migrate function, whose admin role acts as the owner.
CREATE POLICY owner_keeps_tenants ON harkara.tenants TO harkara_owner USING (true) WITH CHECK (true);

CALL harkara.audit_table('harkara.tenants', 'tenant_id');
CALL harkara.audit_table('harkara.recipients', 'recipient_id', 'email,phone,name');
CALL harkara.audit_table('harkara.templates', 'template_key');
CALL harkara.audit_table('harkara.template_versions', 'template_key,channel,locale,version', 'subject,text_body,html_body');
CALL harkara.audit_table('harkara.categories', 'category_key');

-- Sets the tenant and says what state it is in, NULL where there is none: one call at the beginning of a transaction.
CREATE FUNCTION harkara.enter_tenant(tenant uuid, actor text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM harkara.set_tenant(tenant, actor);
    RETURN (SELECT t.state FROM harkara.tenants t WHERE t.tenant_id = tenant);
END
$$;

REVOKE EXECUTE ON FUNCTION harkara.enter_tenant FROM PUBLIC;
GRANT EXECUTE ON FUNCTION harkara.enter_tenant TO harkara_api;

-- The operator is a tenant like any other, with the nil id.
-- It owns what belongs to nobody else: dead letters that name no tenant, and alerts about the service itself.
INSERT INTO harkara.tenants (tenant_id, name) VALUES ('00000000-0000-0000-0000-000000000000', 'operator');

RESET ROLE;
