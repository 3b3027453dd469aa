-- Domain jobs that call an HTTPS endpoint: what signs their calls, and by which id the endpoint knows a call again.
-- Safe beside running code: the table is new, and so are two columns that code which does not know them leaves NULL.
SET LOCAL ROLE harkara_owner;

-- A job that calls an endpoint has one secret that signs on, and for a while after it was replaced the one of before.
-- Each is encrypted for its own row.
CREATE TABLE harkara.domain_job_secrets (
    tenant_id     uuid        NOT NULL,
    job_key       text        NOT NULL,
    secret_id     uuid        NOT NULL,
    sealed_secret bytea       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT harkara.now(),
    -- When one that was replaced signs no more; NULL signs on.
    ends_at       timestamptz,
    PRIMARY KEY (tenant_id, job_key, secret_id),
    FOREIGN KEY (tenant_id, job_key) REFERENCES harkara.domain_jobs
);

CREATE UNIQUE INDEX domain_job_secrets_one_signs_on ON harkara.domain_job_secrets (tenant_id, job_key)
WHERE ends_at IS NULL;

CALL harkara.guard_table('harkara.domain_job_secrets');
CREATE POLICY no_recipient_sees_it ON harkara.domain_job_secrets AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()));
GRANT SELECT, INSERT, UPDATE (ends_at), DELETE ON harkara.domain_job_secrets TO harkara_api;
CALL harkara.admit_worker('harkara.domain_job_secrets', 'SELECT');
CALL harkara.audit_table('harkara.domain_job_secrets', 'job_key,secret_id', 'sealed_secret');

-- The id of what an endpoint is told, and the time of the schedule that it is told of. A run that dies may have told it, so
-- the run that makes up for it tells the same again; one that ends in words clears them.
ALTER TABLE harkara.domain_job_clocks ADD COLUMN message_id uuid, ADD COLUMN message_due_at timestamptz;

RESET ROLE;
