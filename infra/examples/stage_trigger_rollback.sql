-- Takes back stage_trigger.sql, as an administrator: the registrations stay, and nobody is told any more. What was asked for
-- before is still sent, unless harkara.cancel is called.
DROP TRIGGER stage_is_told ON dealer.registrations;
DROP FUNCTION dealer.tell_customer();
ALTER TABLE dealer.registrations DROP COLUMN tell_customer;
CALL harkara.close_door('dealer_app');
