//! Jobs: how they stand, what they did, and a run on request.

use super::{Answer, Api};
use adapters::ids::new_uuid;
use adapters::store::job_runs::{JobRunView, list_job_runs, read_last_job_runs, request_job_run};
use adapters::wire::fields::Fields;
use adapters::wire::http::{Request, Response};
use adapters::wire::job_event::{RUN_REQUESTED, print_request};
use adapters::wire::jobs::{print_job, print_job_run};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::views::print_page;
use domain::event::{Event, EventBus};
use domain::id::{EventId, JobRunId, TenantId};
use domain::job::Job;
use domain::queue::Queue;
use domain::secret::KeyService;
use serde_json::{Value, json};

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn list_jobs(&self, request: &Request) -> Answer {
        Query::of(&request.query).finish()?;
        let mut transaction = self.begin(request).await?;
        let (now, runs) = read_last_job_runs(&mut transaction, Job::ALL).await?;
        transaction.commit().await?;
        let last = |job: Job| runs.iter().find(|run| run.job == job.as_str());
        let jobs: Value = Job::ALL.iter().map(|job| print_job(*job, last(*job), now)).collect();
        Ok(Response::json(200, &json!({"jobs": jobs})))
    }

    pub(super) async fn list_job_runs(&self, request: &Request) -> Answer {
        let job = find_job(request)?;
        let mut query = Query::of(&request.query);
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let runs = list_job_runs(&mut transaction, job, &page).await?;
        transaction.commit().await?;
        let cursor = |run: &JobRunView| Cursor { at: run.started_at, id: run.id.as_uuid() };
        Ok(Response::json(200, &print_page("runs", &runs, page.size, print_job_run, cursor)))
    }

    /// Asks the job's function by an event, so that the API needs no right to invoke it. The event is in the outbox, and
    /// is put on the bus at once, too: the dispatcher, who empties the outbox, may be the job that does not run. Both carry
    /// the run's id, and a run happens once.
    pub(super) async fn run_job(&self, request: &Request, request_id: &str) -> Answer {
        let job = find_job(request)?;
        let body = request.json_or_empty()?;
        Fields::of(&body, "").map_err(|error| vec![error]).and_then(Fields::finish).map_err(Problem::invalid)?;
        let caller = request.caller()?;
        if caller.tenant != TenantId::OPERATOR {
            return Err(Problem::operator_only().into());
        }
        let (id, run) = (EventId::from_uuid(new_uuid()), JobRunId::from_uuid(new_uuid()));
        let mut detail = print_request(job, run, &caller.subject);
        detail["event_id"] = id.to_string().into();
        detail["tenant_id"] = caller.tenant.to_string().into();
        let event = Event { id, tenant: caller.tenant, detail_type: RUN_REQUESTED.to_owned(), detail };
        let mut requested = Vec::new();
        let answer = self.answer_once(request, request_id, &body, async |transaction| {
            request_job_run(transaction, &event).await?;
            requested.push(event.clone());
            Ok((json!({"job": job.as_str(), "run_id": run.to_string()}), Vec::new()))
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

/// The job that the path names.
fn find_job(request: &Request) -> Result<Job, Problem> {
    Job::parse(request.parameter("name")).ok_or_else(|| Problem::not_found("job"))
}
