-- Links in the mails of escalations that act: each once, and for a time.
-- Safe beside running code: the table is new, and the column may be empty, which is a mail without such links.
SET LOCAL ROLE harkara_owner;

-- Until when the links of the notification act. The links themselves are signed and stored nowhere.
ALTER TABLE harkara.escalation_notifications ADD COLUMN links_expire_at timestamptz;

-- Links that have acted, by the SHA-256 of their tokens. Whoever comes second finds the row there.
CREATE TABLE harkara.action_link_uses (
    tenant_id     uuid        NOT NULL,
    token_hash    bytea       NOT NULL,
    escalation_id uuid        NOT NULL,
    recipient_id  text        NOT NULL,
    action        text        NOT NULL,
    used_at       timestamptz NOT NULL DEFAULT harkara.now(),
    PRIMARY KEY (tenant_id, token_hash),
    FOREIGN KEY (tenant_id, escalation_id) REFERENCES harkara.escalations,
    CONSTRAINT link_action_is_known CHECK (action IN ('acknowledge', 'resolve')),
    CONSTRAINT token_hash_has_32_bytes CHECK (octet_length(token_hash) = 32)
);

CALL harkara.guard_table('harkara.action_link_uses');
CREATE POLICY no_recipient_sees_it ON harkara.action_link_uses AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()));
GRANT SELECT, INSERT ON harkara.action_link_uses TO harkara_api;
CALL harkara.audit_table('harkara.action_link_uses', 'token_hash');

RESET ROLE;
