-- A digest of a category's own rhythm goes at the time that its recipient has chosen: a round of digests is for one place,
-- which is a zone, or a zone with such a time behind it ('Europe/Berlin 18:30:00 5'; '-' is what a recipient does not say).
-- Which times are chosen is asked in each run.
-- Safe beside running code, which reads no column differently; writers of preferences wait while the index is made.
SET LOCAL ROLE harkara_owner;

-- What is not chosen is a time and a weekday that are none, so that both can be compared.
CREATE INDEX preferences_by_digest_time ON harkara.preferences
    (tenant_id, coalesce(digest_time, '24:00'), coalesce(digest_weekday, 0), subject_id)
WHERE digest_time IS NOT NULL OR digest_weekday IS NOT NULL;

COMMENT ON COLUMN harkara.digest_rounds.time_zone IS
    'A zone, '''' for who has none, and behind it the time and the weekday of those who have chosen any.';

RESET ROLE;
