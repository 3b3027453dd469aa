//! The walk over every route: what is another tenant's is not there, and a token reaches no further than its scopes.

pub(crate) mod fixtures;

use adapters::wire::access::{Access, Scope};
use adapters::wire::routes::Route;
use fixtures::prepare;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, Ask, OTHER_TENANT, Stage, TENANT};

/// What these are about is nobody's but the deployment's: every tenant may look, and only the operator may act. The tests of
/// jobs hold them to that.
const OF_THE_DEPLOYMENT: [Route; 3] = [Route::ListJobs, Route::ListJobRuns, Route::RunJob];

/// An answer as a caller can tell it from another; how many requests are left tells nothing of it.
fn seen(answer: &Answer) -> (i64, Value, &Value) {
    let mut headers = answer.headers.clone();
    headers.as_object_mut().expect("headers").remove("ratelimit");
    (answer.status, headers, &answer.body)
}

/// The same request for things that were never there: names of the same form.
fn ask_for_nothing(ask: &Ask) -> Ask {
    let never = |text: &String| match text.split_once('_') {
        Some((prefix, rest)) if rest.len() == 32 => format!("{prefix}_{}", "0123456789abcdef".repeat(2)),
        _ => "never-was".to_owned(),
    };
    let parameters = ask.parameters.iter().map(|(name, value)| (name.clone(), never(value))).collect();
    Ask { parameters, ..ask.clone() }
}

fn as_tenant(ask: &Ask, tenant: &str) -> Ask {
    ask.clone().with_claim("tenant_id", tenant)
}

/// What `GET` shows of what a request is about: by the same path, or by the nearest one above it.
fn look(ask: &Ask) -> Ask {
    let mut path = ask.route.split_once(' ').expect("a route has a method and a path").1;
    loop {
        if let Some(route) = Route::of(&format!("GET {path}")) {
            return Ask { route: route.key().to_owned(), body: String::new(), ..ask.clone() };
        }
        let above = path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty());
        path = above.unwrap_or_else(|| panic!("nothing shows what {} does", ask.route));
    }
}

/// A list or a bulk request names in its answer what is its tenant's: else it would prove nothing that another's does not.
fn assert_shows_marks(route: Route, marks: &[String], answer: &Answer) {
    let text = answer.body.to_string();
    for mark in marks.iter().filter(|_| route.parameters().count() == 0) {
        assert!(text.contains(mark.as_str()), "{route} does not show its own tenant {mark}: {text}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_another_tenants_is_not_there_by_any_route(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    let of_a_tenant = |route: &&Route| route.access() != Access::Public && !OF_THE_DEPLOYMENT.contains(route);
    for route in Route::ALL.iter().filter(of_a_tenant) {
        let prepared = prepare(&stage, TENANT, *route).await;
        let look = look(&prepared.ask);
        let before = stage.ask(&look).await;
        assert_eq!(before.status, 200, "{route}: {before:?}");
        let theirs = stage.ask(&as_tenant(&prepared.ask, OTHER_TENANT)).await;
        if route.parameters().count() > 0 && route.method() != "PUT" {
            let missing = stage.ask(&as_tenant(&ask_for_nothing(&prepared.ask), OTHER_TENANT)).await;
            assert_eq!(theirs.status, 404, "{route}: {theirs:?}");
            assert_eq!(seen(&theirs), seen(&missing), "{route}: it looks like what never was");
        }
        // Whoever puts something under an id makes its own, and is told its id.
        if route.method() != "PUT" && *route != Route::PutRecipients {
            let text = theirs.body.to_string();
            for mark in &prepared.marks {
                assert!(!text.contains(mark.as_str()), "{route} shows another tenant {mark}");
            }
        }
        let after = stage.ask(&look).await;
        assert_eq!(after.body, before.body, "{route}: another tenant has changed what it does not own");
        let own = stage.ask(&prepared.ask).await;
        assert!((200..300).contains(&own.status), "{route}: its tenant is answered {own:?}");
        assert_shows_marks(*route, &prepared.marks, &own);
    }
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_token_reaches_no_further_than_its_scopes(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for route in Route::ALL {
        let Access::Scopes(wanted) = route.access() else { continue };
        let prepared = prepare(&stage, TENANT, *route).await;
        for scope in Scope::ALL {
            let answer = stage.ask(&prepared.ask.clone().with_claim("scope", scope.as_str())).await;
            let is_refused = (answer.status, answer.body["code"].as_str()) == (403, Some("scope_missing"));
            assert_eq!(is_refused, !wanted.contains(scope), "{route} with {scope}: {answer:?}");
        }
        for claims in [
            json!({"tenant_id": TENANT, "sub": "tester"}),
            json!({"tenant_id": TENANT, "sub": "tester", "scope": "openid admin *"}),
            json!({"sub": "tester", "scope": "notifications:read notifications:write manage"}),
            json!({}),
        ] {
            let answer = stage.ask(&Ask { claims: claims.clone(), ..prepared.ask.clone() }).await;
            assert_eq!(answer.status, 403, "{route} with {claims}: {answer:?}");
        }
    }
    stage.leave_work();
}

/// A recipient's own token is good for that recipient's part of a route, where the route has one: whether it names the
/// recipient by its id or by its phone number.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_recipients_own_token_reaches_nobody_else(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    let eve = ("eve".to_owned(), "+4915199999999".to_owned());
    stage.put(TENANT, "/v1/recipients/{id}", &eve.0, json!({"email": "eve@example.org", "phone": eve.1})).await;
    for route in Route::ALL {
        let Access::Scopes(wanted) = route.access() else { continue };
        let prepared = prepare(&stage, TENANT, *route).await;
        for claim in ["sub", "phone_number"] {
            let own = |ask: &Ask, whose: &(String, String)| {
                let who = if claim == "sub" { &whose.0 } else { &whose.1 };
                ask.clone().with_claim("scope", "self manage notifications:read").with_claim(claim, who)
            };
            let theirs = stage.ask(&own(&prepared.ask, &eve)).await;
            if !wanted.contains(&Scope::OwnRecipient) {
                assert_eq!(theirs.status, 403, "{route}: other scopes count for nothing: {theirs:?}");
                continue;
            }
            if route.parameters().count() > 0 {
                let missing = stage.ask(&own(&ask_for_nothing(&prepared.ask), &eve)).await;
                assert_eq!(theirs.status, 404, "{route}: {theirs:?}");
                assert_eq!(seen(&theirs), seen(&missing), "{route}: it looks like what never was");
            }
            for mark in &prepared.marks {
                assert!(!theirs.body.to_string().contains(mark.as_str()), "{route} shows another recipient {mark}");
            }
            let Some(owner) = &prepared.owner else { continue };
            let answer = stage.ask(&own(&prepared.ask, owner)).await;
            assert!((200..300).contains(&answer.status), "{route}: the recipient is answered {answer:?}");
            assert_shows_marks(*route, &prepared.marks, &answer);
        }
    }
    stage.leave_work();
}

/// Its path's token is all that a public route looks at, and whoever has none learns nothing.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_public_route_is_its_links_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for route in Route::ALL.iter().filter(|route| route.access() == Access::Public) {
        let prepared = prepare(&stage, TENANT, *route).await;
        let forge = |text: &str| Ask { claims: json!({}), ..prepared.ask.clone().with_parameter("token", text) };
        let own = prepared.ask.parameters["token"].clone();
        let answer = stage.ask(&forge(&own)).await;
        assert!(answer.status < 500 && answer.status != 404, "{route}: {answer:?}");
        let never = stage.ask(&forge("never-was")).await;
        assert_eq!(never.status, 404, "{route}: {never:?}");
        for forged in [format!("{own}A"), own[1..].to_owned(), own.to_lowercase(), own.replace(['a', 'b', 'c'], "d")] {
            assert_eq!(seen(&stage.ask(&forge(&forged)).await), seen(&never), "{route} takes {forged}");
        }
    }
    stage.leave_work();
}
