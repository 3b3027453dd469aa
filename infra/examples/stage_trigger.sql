-- A car dealer's registrations, in a schema of the dealer's own: when a stage changes, the customer is told, in the
-- transaction of the change. An example of harkara.enqueue from a trigger; a test runs this file as it is.
--
-- Before: the category registration_stage with a template that shows old_stage and new_stage, the customers as recipients,
-- and once, by an administrator, for the role that the dealer's program logs in as:
--     CALL harkara.open_door('dealer_app', '018f0000-0000-7000-8000-000000000001');
-- stage_trigger_rollback.sql takes it back.
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
