-- A car dealer's registrations, in a schema of the dealer's own: when a stage changes, the customer is told, in the
-- transaction of the change. An example of harkara.enqueue from a trigger; tests run this file.
--
-- Before, in this order:
--   1. The tenant, the category registration_stage with a published template that shows registration, old_stage and
--      new_stage, and the customers as recipients. Where the category or the customer is missing, a change of stage fails.
--   2. By an administrator, the role that the dealer's program logs in as, and its door to that tenant:
--          CREATE ROLE dealer_app LOGIN PASSWORD 'of-your-own';
--          CALL harkara.open_door('dealer_app', '018f0000-0000-7000-8000-000000000001');
-- Then this file, by the administrator, whole or not at all:
--     psql -v ON_ERROR_STOP=1 --single-transaction -f infra/examples/stage_trigger.sql
-- From then on whoever changes a stage needs a door: the dealer's program has it, and an administrator has none.
--
-- To take it back, by the administrator and in the same way: stage_trigger_rollback.sql. It takes the trigger away before the
-- door, so that the program can change stages at every moment.
CREATE SCHEMA dealer;

CREATE TABLE dealer.registrations (
    registration_id text PRIMARY KEY,
    -- The recipient's id.
    customer_id     text NOT NULL,
    stage           text NOT NULL,
    -- An administrator's choice for the next change, and for that one only: false tells nobody, true and NULL tell.
    tell_customer   boolean
);

-- It runs as whoever changes the stage, who needs a door. Were it SECURITY DEFINER, its owner would have to be a member of
-- harkara_domain, and the door would still be that of the role that logged in.
CREATE FUNCTION dealer.tell_customer() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NEW.tell_customer IS NOT FALSE THEN
        PERFORM harkara.enqueue(jsonb_build_object(
            'category', 'registration_stage',
            'recipient', jsonb_build_object('id', NEW.customer_id),
            'data', jsonb_build_object(
                'registration', NEW.registration_id, 'old_stage', OLD.stage, 'new_stage', NEW.stage),
            -- Five minutes of quiet, and half an hour at most: changes that follow each other become one mail.
            'debounce', jsonb_build_object(
                'key', 'registration-' || NEW.registration_id, 'window', 'PT5M', 'max', 'PT30M'),
            'metadata', jsonb_build_object('registration', NEW.registration_id)));
    END IF;
    -- The choice was for this change. The trigger is not about this column, so it does not come here again.
    UPDATE dealer.registrations SET tell_customer = NULL
    WHERE registration_id = NEW.registration_id AND tell_customer IS NOT NULL;
    RETURN NULL;
END
$$;

-- After the row has been changed, so that a change which another trigger forbids or alters tells nothing wrong.
CREATE TRIGGER stage_is_told AFTER UPDATE OF stage ON dealer.registrations
FOR EACH ROW WHEN (OLD.stage IS DISTINCT FROM NEW.stage) EXECUTE FUNCTION dealer.tell_customer();

-- What the dealer's program does with its tables; it deletes none. The door gives it harkara.enqueue, and nothing of this.
GRANT USAGE ON SCHEMA dealer TO dealer_app;
GRANT SELECT, INSERT, UPDATE ON dealer.registrations TO dealer_app;
