-- Keys: what a tenant's secrets are encrypted with, and what the links in its mails are signed with.
-- Safe beside running code: both tables are new, and code that does not know them asks for nothing of them.
SET LOCAL ROLE harkara_owner;

-- Data keys, wrapped by the key service with a master key that never leaves it and bound to their tenant there.
-- A row is never changed: what it encrypts says its number. The newest encrypts, all of them decrypt.
CREATE TABLE harkara.tenant_keys (
    tenant_id   uuid        NOT NULL REFERENCES harkara.tenants,
    key_id      integer     NOT NULL,
    wrapped_key bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key_id),
    -- Two bytes in what it encrypts.
    CONSTRAINT key_id_has_two_bytes CHECK (key_id BETWEEN 1 AND 65535)
);

-- The secrets that sign links; each is encrypted for its own row. A mail is read years later, so old keys verify on.
-- One that leaked is withdrawn by an operator's hand: its links are forgeries from retired_at on.
CREATE TABLE harkara.link_keys (
    tenant_id     uuid        NOT NULL REFERENCES harkara.tenants,
    key_id        integer     NOT NULL,
    sealed_secret bytea       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    retired_at    timestamptz,
    PRIMARY KEY (tenant_id, key_id),
    CONSTRAINT link_key_id_has_two_bytes CHECK (key_id BETWEEN 1 AND 65535)
);

CALL harkara.guard_table('harkara.tenant_keys');
CALL harkara.guard_table('harkara.link_keys');
CALL harkara.admit_worker('harkara.tenant_keys', 'SELECT', 'INSERT');
CALL harkara.admit_worker('harkara.link_keys', 'SELECT', 'INSERT');
-- Whoever comes first makes the key, and nobody changes it.
GRANT SELECT, INSERT ON harkara.tenant_keys, harkara.link_keys TO harkara_api;

CALL harkara.audit_table('harkara.tenant_keys', 'key_id', 'wrapped_key');
CALL harkara.audit_table('harkara.link_keys', 'key_id', 'sealed_secret');

RESET ROLE;
