//! Domain jobs: the body that registers one, which is also how what it does is kept.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use domain::category::Priority;
use domain::domain_job::{
    Candidates, MAX_CANDIDATE_BYTES, MAX_TIMEOUT_SECONDS, SqlName, TIMEOUT_DEFAULT_SECONDS, Work,
};
use domain::endpoint::EndpointUrl;
use domain::id::{CategoryKey, TemplateKey};
use domain::moment::TimeZoneName;
use domain::render::check_context;
use domain::schedule::Schedule;
use serde_json::{Value, json};

/// The body of `PUT /v1/jobs/{key}`.
#[derive(Clone, Debug)]
pub struct DomainJobBody {
    /// When it is due.
    pub schedule: Schedule,
    /// Whose clocks its schedule follows; `None` is the tenant's zone.
    pub time_zone: Option<TimeZoneName>,
    /// How long the domain's statement or endpoint may take.
    pub timeout_seconds: u32,
    /// What it does.
    pub work: Work,
    /// Whether its schedule leads to runs; a job that is not is paused.
    pub is_enabled: bool,
    /// Whether the secret that signs its calls is to be replaced.
    pub replaces_secret: bool,
}

/// Reads the body of `PUT /v1/jobs/{key}`.
pub fn read_domain_job(body: &Value) -> Result<DomainJobBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let schedule = fields.parsed("schedule", Schedule::parse);
    fields.require("schedule", &schedule);
    let time_zone = fields.parsed("time_zone", TimeZoneName::parse);
    let timeout = fields.number("timeout_seconds", 1, MAX_TIMEOUT_SECONDS);
    let work = read_work(&mut fields);
    let is_enabled = fields.flag("enabled") || fields.value("enabled").is_none();
    fields.finish().map_err(Problem::invalid)?;
    let (schedule, (work, replaces_secret)) = schedule.zip(work).ok_or_else(|| Problem::invalid(Vec::new()))?;
    let timeout_seconds = timeout.unwrap_or(TIMEOUT_DEFAULT_SECONDS);
    Ok(DomainJobBody { schedule, time_zone, timeout_seconds, work, is_enabled, replaces_secret })
}

/// What it does, and whether its secret is to be replaced.
fn read_work(fields: &mut Fields<'_>) -> Option<(Work, bool)> {
    let candidates = fields.object("candidates", read_candidates);
    let call = fields.object("call", read_call);
    match (fields.value("candidates").is_some(), fields.value("call").is_some()) {
        (true, false) => candidates.map(|candidates| (Work::Candidates(candidates), false)),
        (false, true) => call,
        _ => {
            let error = FieldError::new(fields.pointer(), "must have either candidates or call");
            fields.extend([error]);
            None
        }
    }
}

fn read_candidates(value: &Value, pointer: String) -> Result<Candidates, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let view = fields.parsed("view", SqlName::parse);
    fields.require("view", &view);
    let category = fields.parsed("category", CategoryKey::parse);
    fields.require("category", &category);
    let template = fields.parsed("template", TemplateKey::parse);
    let priority = fields.named("priority", Priority::parse, Priority::ALL, Priority::as_str);
    let data = fields.opaque("data");
    if data.to_string().len() > MAX_CANDIDATE_BYTES {
        fields.wrong("data", format_args!("must have at most {MAX_CANDIDATE_BYTES} bytes of JSON"));
    }
    if let Err(error) = check_context(&data) {
        fields.wrong("data", error.detail);
    }
    fields.finish()?;
    let (view, category) = view.zip(category).ok_or_else(Vec::new)?;
    Ok(Candidates { view, category, template, priority: priority.unwrap_or(Priority::Normal), data })
}

fn read_call(value: &Value, pointer: String) -> Result<(Work, bool), Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let function = fields.parsed("function", SqlName::parse).map(Work::Function);
    let endpoint = fields.parsed("url", EndpointUrl::parse).map(Work::Endpoint);
    let replaces_secret = fields.flag("replace_secret");
    if fields.value("function").is_some() == fields.value("url").is_some() {
        let error = FieldError::new(fields.pointer(), "must have either function or url");
        fields.extend([error]);
    }
    if replaces_secret && function.is_some() {
        fields.wrong("replace_secret", "is of a url; a function has no secret");
    }
    fields.finish()?;
    let work = function.or(endpoint).ok_or_else(Vec::new)?;
    Ok((work, replaces_secret))
}

/// What a job does, as it is read; also as it is kept.
pub fn print_work(work: &Work) -> Value {
    match work {
        Work::Candidates(Candidates { view, category, template, priority, data }) => {
            let mut printed = json!({
                "view": view.to_string(), "category": category.as_str(), "priority": priority.as_str(), "data": data,
            });
            if let Some(template) = template {
                printed["template"] = template.as_str().into();
            }
            json!({"candidates": printed})
        }
        Work::Function(function) => json!({"call": {"function": function.to_string()}}),
        Work::Endpoint(url) => json!({"call": {"url": url.as_str()}}),
    }
}

/// Reads what a job does as it is kept; `None` where it is nothing that is known here.
pub fn read_kept_work(value: &Value) -> Option<Work> {
    let mut fields = Fields::of(value, "").ok()?;
    let work = read_work(&mut fields);
    fields.finish().ok()?;
    work.map(|(work, _)| work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &Value) -> Vec<String> {
        let problem = read_domain_job(body).map(|_| ()).expect_err("it is refused");
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn what_a_job_does_is_read_as_it_is_printed() {
        let candidates = json!({
            "view": "rental.due", "category": "alert", "template": "alert", "priority": "high", "data": {"desk": "north"},
        });
        let url = "https://payouts.example.com/jobs?dry=1";
        for work in [
            json!({"candidates": candidates}),
            json!({"call": {"function": "rental.refresh_segments"}}),
            json!({"call": {"url": url}}),
        ] {
            let kept = read_kept_work(&work).expect("it is read");
            assert_eq!(print_work(&kept), work);
        }
        for unreadable in [json!({}), json!({"call": {}}), json!(5), json!({"call": {"function": "x"}})] {
            assert!(read_kept_work(&unreadable).is_none(), "{unreadable}");
        }
    }

    #[test]
    fn every_mistake_of_a_body_is_named_by_its_pointer() {
        let call = json!({"function": "rental.f"});
        assert_eq!(pointers(&json!({"schedule": "rate(1 minutes)", "call": call})), ["/schedule"]);
        assert_eq!(pointers(&json!({"schedule": "rate(1 hour)"})), [""]);
        let called = |call: Value| json!({"schedule": "rate(1 hour)", "call": call});
        for neither in [json!({}), json!({"function": "rental.f", "url": "https://example.com"})] {
            assert_eq!(pointers(&called(neither)), ["/call"]);
        }
        for url in ["http://example.com/", "https://ada@example.com/", "example.com", "https://example.com/#"] {
            assert_eq!(pointers(&called(json!({"url": url}))), ["/call/url"], "{url}");
        }
        let secretless = called(json!({"function": "rental.f", "replace_secret": true}));
        assert_eq!(pointers(&secretless), ["/call/replace_secret"]);
        let both = json!({"schedule": "rate(1 hour)", "call": call, "candidates": {"view": "a.b", "category": "c"}});
        assert_eq!(pointers(&both), [""]);
        let wrong = json!({
            "schedule": "cron(0 1 * * * *)", "time_zone": "Mars/Base", "timeout_seconds": 0,
            "candidates": {"view": "pg_catalog.pg_class", "priority": "loud", "data": 5}, "enabled": "no", "colour": "red",
        });
        assert_eq!(
            pointers(&wrong),
            [
                "/schedule",
                "/time_zone",
                "/timeout_seconds",
                "/candidates/view",
                "/candidates/category",
                "/candidates/priority",
                "/candidates/data",
                "/enabled",
                "/colour"
            ]
        );
    }
}
