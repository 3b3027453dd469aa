-- Lets a tenant see what came through its SQL door and is no notification: what waits, and what was refused and why.
-- Safe beside running code: it may see more, and is found faster. The indexes are of a table that is nearly empty.
SET LOCAL ROLE harkara_owner;

GRANT SELECT ON harkara.door_requests TO harkara_api;
CREATE POLICY no_recipient_sees_it ON harkara.door_requests AS RESTRICTIVE TO harkara_api
USING ((SELECT harkara.sees_all_recipients()));

-- Each kind is listed by itself, so that the few of one are found among however many of the other.
CREATE INDEX door_requests_refused_by_time ON harkara.door_requests (tenant_id, created_at, request_id)
WHERE refused_at IS NOT NULL;
CREATE INDEX door_requests_waiting_by_time ON harkara.door_requests (tenant_id, created_at, request_id)
WHERE refused_at IS NULL;

RESET ROLE;
