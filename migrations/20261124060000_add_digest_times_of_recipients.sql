-- A recipient may choose when its digests leave; what it says nothing about is the tenant's.
-- Safe beside running code: the columns may be empty, which is all that older code writes, and what is checked holds for every
-- row that it writes. Its checks are made once for each row, so writers of preferences wait for as long as that takes.
SET LOCAL ROLE harkara_owner;

ALTER TABLE harkara.preferences
    -- The time of the day at which a day or a week ends, in the recipient's zone.
    ADD COLUMN digest_time time,
    -- By ISO 8601: 1 is Monday.
    ADD COLUMN digest_weekday integer,
    ADD CONSTRAINT digest_weekday_is_one CHECK (digest_weekday BETWEEN 1 AND 7),
    -- A digest collects from many categories, and leaves at one time. The tenant's own is in its settings.
    ADD CONSTRAINT digest_time_is_a_recipients_for_everything CHECK (
        num_nonnulls(digest_time, digest_weekday) = 0
        OR (subject_id <> '00000000-0000-0000-0000-000000000000' AND category_key = '*' AND channel = '*')),
    DROP CONSTRAINT preference_says_something,
    ADD CONSTRAINT preference_says_something CHECK (
        num_nonnulls(is_on, cadence, quiet_from, digest_time, digest_weekday) > 0);

RESET ROLE;
