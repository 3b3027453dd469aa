-- What is stored of each tenant's keys.
-- A link key signs only ten minutes after it was made: instances remember keys for five, and verify with what they remember.
SELECT t.tenant_id,
       ARRAY(SELECT d.key_id FROM harkara.tenant_keys d
             WHERE d.tenant_id = t.tenant_id ORDER BY d.key_id) AS "data_key_ids!",
       ARRAY(SELECT d.wrapped_key FROM harkara.tenant_keys d
             WHERE d.tenant_id = t.tenant_id ORDER BY d.key_id) AS "wrapped_keys!",
       ARRAY(SELECT l.key_id FROM harkara.link_keys l
             WHERE l.tenant_id = t.tenant_id AND l.retired_at IS NULL ORDER BY l.key_id) AS "link_key_ids!",
       ARRAY(SELECT l.sealed_secret FROM harkara.link_keys l
             WHERE l.tenant_id = t.tenant_id AND l.retired_at IS NULL ORDER BY l.key_id) AS "sealed_secrets!",
       ARRAY(SELECT l.created_at <= harkara.now() - interval '10 minutes' FROM harkara.link_keys l
             WHERE l.tenant_id = t.tenant_id AND l.retired_at IS NULL ORDER BY l.key_id) AS "are_settled!",
       -- Withdrawn keys keep their numbers.
       coalesce((SELECT max(l.key_id) FROM harkara.link_keys l WHERE l.tenant_id = t.tenant_id), 0) AS "newest_link_key!"
FROM harkara.tenants t
WHERE t.tenant_id = ANY ($1)
