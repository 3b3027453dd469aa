-- What a rental company has behind the twelve jobs of rental_jobs.json, in a schema of its own: the views whose rows become
-- notifications, and the functions that are called. Tests run this file as it is.
--
-- A view's key says what makes a row one notification: it is told once, however often the view shows it. What is to be
-- told again has the date in its key.
CREATE SCHEMA rental;

CREATE TABLE rental.bookings (
    tenant_id   uuid        NOT NULL,
    booking_id  text        NOT NULL,
    -- The recipient's id.
    customer_id text        NOT NULL,
    vehicle_id  text        NOT NULL,
    pickup_at   timestamptz NOT NULL,
    return_at   timestamptz NOT NULL,
    returned_at timestamptz,
    -- NULL: there is none.
    deposit_due_at  timestamptz,
    deposit_paid_at timestamptz,
    PRIMARY KEY (tenant_id, booking_id)
);

CREATE TABLE rental.vehicles (
    tenant_id          uuid NOT NULL,
    vehicle_id         text NOT NULL,
    maintenance_due_on date NOT NULL,
    insured_until      date NOT NULL,
    PRIMARY KEY (tenant_id, vehicle_id)
);

CREATE TABLE rental.instalments (
    tenant_id     uuid NOT NULL,
    instalment_id text NOT NULL,
    customer_id   text NOT NULL,
    due_on        date NOT NULL,
    paid_at       timestamptz,
    PRIMARY KEY (tenant_id, instalment_id)
);

CREATE TABLE rental.contracts (
    tenant_id   uuid        NOT NULL,
    contract_id text        NOT NULL,
    customer_id text        NOT NULL,
    sent_at     timestamptz NOT NULL,
    signed_at   timestamptz,
    PRIMARY KEY (tenant_id, contract_id)
);

CREATE TABLE rental.tickets (
    tenant_id   uuid        NOT NULL,
    ticket_id   text        NOT NULL,
    answer_by   timestamptz NOT NULL,
    answered_at timestamptz,
    PRIMARY KEY (tenant_id, ticket_id)
);

CREATE TABLE rental.promotions (
    tenant_id    uuid        NOT NULL,
    promotion_id text        NOT NULL,
    begins_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, promotion_id)
);

CREATE TABLE rental.sign_ins (
    tenant_id    uuid        NOT NULL,
    user_id      text        NOT NULL,
    signed_in_at timestamptz NOT NULL,
    is_refused   boolean     NOT NULL
);

CREATE TABLE rental.segments (
    tenant_id   uuid NOT NULL,
    customer_id text NOT NULL,
    segment     text NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
);

CREATE MATERIALIZED VIEW rental.bookings_by_vehicle AS
SELECT tenant_id, vehicle_id, count(*) AS bookings FROM rental.bookings GROUP BY tenant_id, vehicle_id;

-- generate_dashboard_alerts
CREATE VIEW rental.alert_candidates AS
SELECT tenant_id, 'late-' || booking_id AS key, 'fleet-desk' AS recipient,
       jsonb_build_object('what', vehicle_id || ' has not been returned') AS data
FROM rental.bookings WHERE returned_at IS NULL AND return_at < now();

-- booking_reminders: once each of the deposit, unless it is paid, the pickup, and the return
CREATE VIEW rental.booking_reminders_due AS
SELECT b.tenant_id, due.name || '-' || b.booking_id AS key, b.customer_id AS recipient,
       jsonb_build_object('what', due.what) AS data
FROM rental.bookings b CROSS JOIN LATERAL (VALUES
    ('deposit', CASE WHEN b.deposit_paid_at IS NULL THEN b.deposit_due_at END,
     'The deposit for ' || b.vehicle_id || ' is due within a day'),
    ('pickup', b.pickup_at, 'Your booking of ' || b.vehicle_id || ' begins within a day'),
    ('return', CASE WHEN b.returned_at IS NULL THEN b.return_at END,
     'Your booking of ' || b.vehicle_id || ' ends within a day')) due (name, due_at, what)
WHERE due.due_at BETWEEN now() AND now() + interval '24 hours';

-- maintenance_reminders
CREATE VIEW rental.maintenance_due AS
SELECT tenant_id, 'maintenance-' || vehicle_id || '-' || maintenance_due_on AS key, 'fleet-desk' AS recipient,
       jsonb_build_object('what', vehicle_id || ' is due for maintenance') AS data
FROM rental.vehicles WHERE maintenance_due_on <= current_date + 7;

-- installment_reminders: told before, and on each day that it is late. Where others are to hear of one that stays unpaid, it
-- is a deadline: contract-12-instalment-3 of rental_deadlines.json escalates.
CREATE VIEW rental.instalments_due AS
SELECT tenant_id, 'instalment-' || instalment_id || CASE WHEN due_on < current_date THEN '-' || current_date ELSE '' END AS key,
       customer_id AS recipient, jsonb_build_object('what', 'Instalment ' || instalment_id || ' is due') AS data
FROM rental.instalments WHERE paid_at IS NULL AND due_on <= current_date + 3;

-- sla_monitor
CREATE VIEW rental.breached_slas AS
SELECT tenant_id, 'sla-' || ticket_id AS key, 'support-lead' AS recipient,
       jsonb_build_object('what', 'Ticket ' || ticket_id || ' waits for an answer') AS data
FROM rental.tickets WHERE answered_at IS NULL AND answer_by < now();

-- insurance_reminders: sixty days ahead, and a week
CREATE VIEW rental.insurances_expiring AS
SELECT v.tenant_id, 'insurance-' || v.vehicle_id || '-' || v.insured_until || '-' || ahead.days AS key,
       'fleet-desk' AS recipient,
       jsonb_build_object('what', v.vehicle_id || ' is insured until ' || v.insured_until) AS data
FROM rental.vehicles v CROSS JOIN (VALUES (60), (7)) ahead (days)
WHERE v.insured_until BETWEEN current_date AND current_date + ahead.days;

-- Which promotions hold at this moment. Nothing switches them on or off: the company's programs read this view, and so a
-- promotion begins and ends to the second, whether or not a job has run.
CREATE VIEW rental.active_promotions AS
SELECT tenant_id, promotion_id FROM rental.promotions WHERE begins_at <= now() AND now() < ends_at;

-- promotion_scheduler: tells marketing once when one begins, and once when it ends
CREATE VIEW rental.promotions_changed AS
SELECT p.tenant_id, 'promotion-' || p.promotion_id || '-' || change.name AS key, 'marketing' AS recipient,
       jsonb_build_object('what', p.promotion_id || ' has ' || change.name) AS data
FROM rental.promotions p CROSS JOIN LATERAL (VALUES ('begun', p.begins_at), ('ended', p.ends_at)) change (name, changed_at)
WHERE change.changed_at BETWEEN now() - interval '1 day' AND now();

-- contract_reminders
CREATE VIEW rental.contracts_unsigned AS
SELECT tenant_id, 'contract-' || contract_id AS key, customer_id AS recipient,
       jsonb_build_object('what', 'Contract ' || contract_id || ' waits for your signature') AS data
FROM rental.contracts WHERE signed_at IS NULL AND sent_at < now() - interval '2 days';

-- audit_anomaly_detector: ten refusals within an hour, once for that hour. The incident that goes on until somebody answers is
-- an escalation: the company's program starts it with POST /v1/escalations and this key.
CREATE VIEW rental.suspicious_activity AS
SELECT tenant_id, 'sign-ins-' || user_id || '-' || extract(epoch FROM date_trunc('hour', signed_in_at))::bigint AS key,
       'support-lead' AS recipient,
       jsonb_build_object('what', count(*) || ' sign-ins of ' || user_id || ' were refused') AS data
FROM rental.sign_ins WHERE is_refused AND signed_in_at > now() - interval '1 day'
GROUP BY tenant_id, user_id, date_trunc('hour', signed_in_at)
HAVING count(*) >= 10;

-- refresh_materialized_views. With its owner's rights: only an owner may refresh. The view is all tenants'.
CREATE FUNCTION rental.refresh_views(tenant uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'REFRESH MATERIALIZED VIEW rental.bookings_by_vehicle';

-- segment_refresh
CREATE FUNCTION rental.refresh_segments(tenant uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO rental.segments (tenant_id, customer_id, segment)
    SELECT b.tenant_id, b.customer_id, CASE WHEN count(*) >= 3 THEN 'regular' ELSE 'occasional' END
    FROM rental.bookings b WHERE b.tenant_id = $1
    GROUP BY b.tenant_id, b.customer_id
    ON CONFLICT (tenant_id, customer_id) DO UPDATE SET segment = excluded.segment
$$;

GRANT USAGE ON SCHEMA rental TO harkara_domain_job;
GRANT SELECT ON rental.alert_candidates, rental.booking_reminders_due, rental.maintenance_due, rental.instalments_due,
    rental.breached_slas, rental.insurances_expiring, rental.promotions_changed, rental.contracts_unsigned,
    rental.suspicious_activity
TO harkara_domain_job;
REVOKE EXECUTE ON FUNCTION rental.refresh_views, rental.refresh_segments FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rental.refresh_views, rental.refresh_segments TO harkara_domain_job;
