-- Takes back stage_trigger.sql, by the administrator, whole or not at all:
--     psql -v ON_ERROR_STOP=1 --single-transaction -f infra/examples/stage_trigger_rollback.sql
-- Before: the dealer's program no longer writes tell_customer. The registrations stay, the program goes on changing them, and
-- nobody is told any more. What was asked for before is still sent, unless it is canceled.
DROP TRIGGER stage_is_told ON dealer.registrations;
DROP FUNCTION dealer.tell_customer();
ALTER TABLE dealer.registrations DROP COLUMN tell_customer;
CALL harkara.close_door('dealer_app');
