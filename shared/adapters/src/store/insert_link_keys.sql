WITH
-- New keys, in one order for everybody, so that two who insert for the same tenants do not wait for each other.
given AS (
    SELECT *
    FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::integer[], $5::bytea[])
         AS g (tenant_id, data_key_id, wrapped_key, link_key_id, sealed_secret)
    ORDER BY tenant_id
),
-- Data keys, where the tenant had none.
made AS (
    INSERT INTO harkara.tenant_keys (tenant_id, key_id, wrapped_key)
    SELECT tenant_id, data_key_id, wrapped_key FROM given WHERE wrapped_key IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING tenant_id
)
-- Link keys, except those that a data key has sealed which was not taken: nothing could open them.
INSERT INTO harkara.link_keys (tenant_id, key_id, sealed_secret)
SELECT g.tenant_id, g.link_key_id, g.sealed_secret
FROM given g
WHERE g.wrapped_key IS NULL OR g.tenant_id IN (SELECT tenant_id FROM made)
ON CONFLICT DO NOTHING
