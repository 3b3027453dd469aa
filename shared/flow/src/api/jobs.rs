//! Jobs: how they stand, what they did, and a run on request.

use super::{Answer, Api};
use adapters::ids::new_uuid;
use adapters::store::domain_jobs::{list_domain_jobs, read_domain_job, request_domain_run};
use adapters::store::job_runs::{JobRunView, list_job_runs, read_last_job_runs, read_time, request_job_run};
use adapters::wire::fields::Fields;
use adapters::wire::http::{Request, Response};
use adapters::wire::job_event::{RUN_REQUESTED, print_request};
use adapters::wire::jobs::{print_domain_job, print_job, print_job_run};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::views::print_page;
use domain::event::{Event, EventBus};
use domain::id::{EventId, JobKey, JobRunId, TenantId};
use domain::job::Job;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

/// A job that a path names: the service's own, whose names no domain's job can have, or one of the tenant's domain.
enum Named {
    /// The service's.
    Service(Job),
    /// The domain's, if there is one.
    Domain(JobKey),
}

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn list_jobs(&self, request: &Request) -> Answer {
        Query::of(&request.query).finish()?;
        let tenant = request.caller()?.tenant;
        let mut transaction = self.begin(request).await?;
        let now = read_time(&mut transaction).await?;
        let names: Vec<_> = Job::ALL.iter().map(|job| job.as_str()).collect();
        let runs = read_last_job_runs(&mut transaction, TenantId::OPERATOR, &names).await?;
        let domain_jobs = list_domain_jobs(&mut transaction).await?;
        let keys: Vec<_> = domain_jobs.iter().map(|row| row.key.as_str()).collect();
        let domain_runs = read_last_job_runs(&mut transaction, tenant, &keys).await?;
        transaction.commit().await?;
        let service = Job::ALL.iter().map(|job| print_job(*job, find_last(&runs, job.as_str()), now));
        let domain = domain_jobs.iter().map(|row| print_domain_job(row, find_last(&domain_runs, &row.key), now));
        Ok(Response::json(200, &json!({"jobs": service.chain(domain).collect::<Value>()})))
    }

    pub(super) async fn get_job(&self, request: &Request) -> Answer {
        let named = find_job(request)?;
        let tenant = request.caller()?.tenant;
        let mut transaction = self.begin(request).await?;
        let now = read_time(&mut transaction).await?;
        let printed = match &named {
            Named::Service(job) => {
                let runs = read_last_job_runs(&mut transaction, TenantId::OPERATOR, &[job.as_str()]).await?;
                Some(print_job(*job, runs.first(), now))
            }
            Named::Domain(key) => {
                let row = read_domain_job(&mut transaction, key).await?;
                let runs = read_last_job_runs(&mut transaction, tenant, &[key.as_str()]).await?;
                row.map(|row| print_domain_job(&row, runs.first(), now))
            }
        };
        transaction.commit().await?;
        Ok(Response::json(200, &printed.ok_or_else(|| Problem::not_found("job"))?))
    }

    /// The runs of a domain's job that was removed are shown for as long as they are kept.
    pub(super) async fn list_job_runs(&self, request: &Request) -> Answer {
        let named = find_job(request)?;
        let mut query = Query::of(&request.query);
        let page = query.page();
        query.finish()?;
        let tenant = request.caller()?.tenant;
        let mut transaction = self.begin(request).await?;
        let runs = match &named {
            Named::Service(job) => list_job_runs(&mut transaction, TenantId::OPERATOR, job.as_str(), &page).await?,
            Named::Domain(key) => {
                let runs = list_job_runs(&mut transaction, tenant, key.as_str(), &page).await?;
                if runs.is_empty() && read_domain_job(&mut transaction, key).await?.is_none() {
                    transaction.commit().await?;
                    return Err(Problem::not_found("job").into());
                }
                runs
            }
        };
        transaction.commit().await?;
        let cursor = |run: &JobRunView| Cursor { at: run.started_at, id: run.id.as_uuid() };
        Ok(Response::json(200, &print_page("runs", &runs, page.size, print_job_run, cursor)))
    }

    /// Asks the job's function by an event, so that the API needs no right to invoke it. The event is in the outbox, and
    /// is put on the bus at once, too: the dispatcher, who empties the outbox, may be the job that does not run. Both carry
    /// the run's id, and a run happens once.
    ///
    /// A domain's job is written down as due, and the function that runs those is asked: whoever runs it next does it.
    pub(super) async fn run_job(&self, request: &Request, request_id: &str) -> Answer {
        let named = find_job(request)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let caller = request.caller()?;
        let job = match &named {
            Named::Service(_) if caller.tenant != TenantId::OPERATOR => return Err(Problem::operator_only().into()),
            Named::Service(job) => *job,
            Named::Domain(_) => Job::DomainJob,
        };
        let (id, run) = (EventId::from_uuid(new_uuid()), JobRunId::from_uuid(new_uuid()));
        let mut detail = print_request(job, run, &caller.subject);
        detail["event_id"] = id.to_string().into();
        detail["tenant_id"] = caller.tenant.to_string().into();
        let event = Event { id, tenant: caller.tenant, detail_type: RUN_REQUESTED.to_owned(), detail };
        let mut requested = Vec::new();
        let answer = self.answer_once(request, request_id, &body, async |transaction| {
            let printed = match &named {
                Named::Service(job) => json!({"job": job.as_str(), "run_id": run.to_string()}),
                Named::Domain(key) => {
                    let own = JobRunId::from_uuid(new_uuid());
                    let own = request_domain_run(transaction, key, own, &caller.subject).await?;
                    let own = own.ok_or_else(|| Problem::not_found("job"))?;
                    json!({"job": key.as_str(), "run_id": own.to_string()})
                }
            };
            request_job_run(transaction, &event).await?;
            requested.push(event.clone());
            Ok((printed, Vec::new()))
        });
        let mut answer = answer.await?;
        if !requested.is_empty() {
            self.bus.publish_events(&requested).await;
        }
        // The function has yet to begin.
        answer.status = 202;
        Ok(answer)
    }
}

fn find_last<'a>(runs: &'a [JobRunView], job: &str) -> Option<&'a JobRunView> {
    runs.iter().find(|run| run.job == job)
}

/// The job that the path names.
fn find_job(request: &Request) -> Result<Named, Problem> {
    let name = request.parameter("key");
    match Job::parse(name) {
        Some(job) => Ok(Named::Service(job)),
        None => JobKey::parse(name).map(Named::Domain).map_err(|_| Problem::not_found("job")),
    }
}
