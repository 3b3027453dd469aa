//! Domain jobs: registered and removed. How they stand is shown beside the service's own; see `jobs`.

use super::{Answer, Api, Refused, parameter, show};
use adapters::store::domain_jobs::{self as store, DomainJobRow, JobLookup, NextDue};
use adapters::store::job_runs::read_last_job_runs;
use adapters::store::job_secrets::{JobSecretError, NewJobSecret, delete_job_secrets, make_job_secret, put_job_secret};
use adapters::telemetry::chain;
use adapters::wire::domain_jobs::{DomainJobBody, read_domain_job};
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::jobs::print_domain_job;
use adapters::wire::problem::Problem;
use domain::domain_job::{MAX_DOMAIN_JOBS, Work};
use domain::event::EventBus;
use domain::id::JobKey;
use domain::job::Job;
use domain::moment::TimeZoneName;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// A view or function that is not there or not granted is no error, because its domain may come later: the answer warns
    /// of it, and runs fail until then.
    pub(super) async fn put_domain_job(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "job", JobKey::parse)?;
        refuse_service_name(&key)?;
        let body = read_domain_job(&request.json()?)?;
        let tenant = request.caller()?.tenant;
        let made = self.make_secret(request, &key, &body).await?;
        let mut transaction = self.begin(request).await?;
        let lookup = store::look_up_job(&mut transaction, &key, &body.work).await?;
        let (mut errors, next_due) = match find_next_due(&body, &lookup) {
            Ok(next_due) => (Vec::new(), next_due),
            Err(error) => (vec![error], NextDue::AsBefore),
        };
        errors.extend(find_errors(&lookup));
        if !errors.is_empty() {
            transaction.roll_back().await?;
            return Err(Problem::invalid(errors).into());
        }
        store::put_domain_job(&mut transaction, &key, &body, next_due).await?;
        let shown = match made {
            Some(made) => {
                let is_new = put_job_secret(&mut transaction, &key, &made, body.replaces_secret).await?;
                is_new.then_some(made.secret)
            }
            None => {
                delete_job_secrets(&mut transaction, &key).await?;
                None
            }
        };
        let row = store::read_domain_job(&mut transaction, &key).await?;
        let runs = read_last_job_runs(&mut transaction, tenant, &[key.as_str()]).await?;
        transaction.commit().await?;
        let pointer = match body.work {
            Work::Candidates(_) => "/candidates/view",
            Work::Function(_) | Work::Endpoint(_) => "/call/function",
        };
        show(row, "job", |row: &DomainJobRow| {
            let mut printed = print_domain_job(row, runs.first(), lookup.now);
            let warning = lookup.ungranted.as_ref().map(|detail| json!({"pointer": pointer, "detail": detail}));
            printed["warnings"] = warning.into_iter().collect::<Value>();
            if let Some(secret) = &shown {
                printed["secret"] = secret.print().into();
            }
            printed
        })
    }

    /// A secret for a job that calls an endpoint, which is kept if the job has none; `None` for any other job.
    async fn make_secret(
        &self,
        request: &Request,
        key: &JobKey,
        body: &DomainJobBody,
    ) -> Result<Option<NewJobSecret>, Refused> {
        let Work::Endpoint(url) = &body.work else { return Ok(None) };
        url.check(&self.local_endpoints)
            .map_err(|error| Problem::invalid(vec![FieldError::new("/call/url", error)]))?;
        let caller = request.caller()?;
        let envelope = self.keys.envelope();
        let made = make_job_secret(envelope, &self.database, caller.tenant, key, &caller.subject).await;
        made.map(Some).map_err(|error| match error {
            JobSecretError::Store(error) => error.into(),
            JobSecretError::Envelope(_) => {
                tracing::error!(error = chain(&error), "a job's secret cannot be made");
                Problem::unavailable().into()
            }
        })
    }

    /// Removes a job. A run that is at work ends as it would.
    pub(super) async fn delete_domain_job(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "job", JobKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let is_deleted = store::delete_domain_job(&mut transaction, &key).await?;
        transaction.commit().await?;
        if is_deleted { Ok(Response::empty(204)) } else { Err(Problem::not_found("job").into()) }
    }
}

fn refuse_service_name(key: &JobKey) -> Result<(), Problem> {
    match Job::parse(key.as_str()) {
        None => Ok(()),
        Some(job) => {
            let detail = format!("{job} is a job of the service itself; choose another key");
            Err(Problem::invalid(vec![FieldError::new("", detail)]))
        }
    }
}

/// When the job is due next. Its schedule goes on where it is the one that is kept; after a pause it counts from now.
fn find_next_due(body: &DomainJobBody, lookup: &JobLookup) -> Result<NextDue, FieldError> {
    let zone = body.time_zone.as_ref().map(|zone| zone.as_str());
    let goes_on = lookup.kept.as_ref().is_some_and(|kept| {
        kept.schedule == body.schedule.as_str() && kept.time_zone.as_deref() == zone && kept.is_enabled
    });
    if goes_on && body.is_enabled {
        return Ok(NextDue::AsBefore);
    }
    let zone = TimeZoneName::parse(zone.unwrap_or(&lookup.tenant_zone))
        .map_err(|error| FieldError::new("/time_zone", error))?;
    match body.schedule.next_after(lookup.now, lookup.now, &zone.zone()) {
        Some(at) if body.is_enabled => Ok(NextDue::At(at)),
        Some(_) => Ok(NextDue::Never),
        None => Err(FieldError::new("/schedule", "is never due again")),
    }
}

fn find_errors(lookup: &JobLookup) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if lookup.is_full() {
        errors.push(FieldError::new("", format!("the tenant has {MAX_DOMAIN_JOBS} jobs, which is the most")));
    }
    if !lookup.has_category {
        let detail = "no category has this key; create it with PUT /v1/categories/{key}";
        errors.push(FieldError::new("/candidates/category", detail));
    }
    if !lookup.has_template {
        let detail = "no template has this key, or none that was published; see PUT /v1/templates/{key}";
        errors.push(FieldError::new("/candidates/template", detail));
    }
    errors
}
