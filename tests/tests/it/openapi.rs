//! The OpenAPI document is what the code does: what it says of requests is asked for on either side of each bound.
//! (What it says of answers is held by [`tests::contract`] in every test that asks for one.)

mod candidates;

use crate::routes::fixtures::prepare;
use adapters::wire::access::Access;
use adapters::wire::routes::Route;
use candidates::{Candidates, set_at};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeSet;
use tests::contract::{DOCUMENT, operation, resolve, validator_of};
use tests::{Answer, Ask, Stage, TENANT};

/// Fields that name another thing of the tenant's, which may not be there however well it is named, or that are held against
/// what a template declares; and lists whose
/// entries must differ in a way that no schema can say.
const LOOKED_UP: &[&str] = &[
    "/digest",
    "/digest_category",
    "/category",
    "/data",
    "/schedule",
    "/candidates",
    "/candidates/view",
    "/candidates/category",
    "/candidates/template",
    "/candidates/data",
    "/template",
    "/preferences",
    "/preferences/0/category",
    "/recipients",
    "/rungs",
    "/rungs/0/category",
    "/rungs/0/template",
    "/overdue/category",
    "/overdue/escalation_policy",
    "/manager",
    "/recipients/0/manager",
    "/policy",
    "/recipient",
    "/steps",
    "/steps/0/category",
    "/steps/0/recipients",
    "/steps/0/tiers",
];

#[test]
fn the_committed_document_is_the_one_that_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/openapi.json");
    let text = std::fs::read_to_string(path).expect("infra/openapi.json");
    let committed: Value = serde_json::from_str(&text).expect("JSON");
    assert!(committed == *DOCUMENT, "infra/openapi.json is not what the code says; run: cargo local openapi");
}

#[test]
fn every_schema_is_one() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
        validator_of(schema);
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_document_is_served_as_it_is_committed(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for scope in ["notifications:read", "self"] {
        let answer = stage.ask(&Ask::of(Route::GetOpenapi, TENANT).with_claim("scope", scope)).await;
        assert_eq!((answer.status, answer.body == *DOCUMENT), (200, true), "{scope}");
    }
    stage.finish().await;
}

/// A field of an object in a request.
struct Place<'a> {
    pointer: String,
    schema: &'a Value,
    is_required: bool,
}

/// The branch of a schema that a value fits.
fn branch_of<'a>(schema: &'a Value, value: &Value) -> &'a Value {
    let schema = resolve(schema);
    let Some(branches) = schema["anyOf"].as_array().filter(|_| schema["properties"].is_null()) else { return schema };
    let fitting = branches.iter().find(|branch| validator_of(branch).is_valid(value));
    branch_of(fitting.unwrap_or_else(|| panic!("{value} fits none of {branches:?}")), value)
}

/// The names of the fields of all objects that a schema may be.
fn all_names(schema: &Value) -> BTreeSet<&str> {
    let schema = resolve(schema);
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let others = schema["anyOf"].as_array().filter(|_| schema["properties"].is_null()).into_iter().flatten();
    own.chain(others.flat_map(all_names)).collect()
}

/// Every object of closed fields within an example, with its schema and pointer.
fn objects<'a>(schema: &'a Value, example: &Value, pointer: &str, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    let branch = branch_of(schema, example);
    if let (Some(fields), Some(properties)) = (example.as_object(), branch["properties"].as_object()) {
        found.push((pointer.to_owned(), schema, branch));
        for (name, schema) in properties {
            if let Some(value) = fields.get(name) {
                objects(schema, value, &format!("{pointer}/{name}"), found);
            }
        }
    }
    if let Some(first) = example.as_array().and_then(|list| list.first()) {
        objects(&branch["items"], first, &format!("{pointer}/0"), found);
    }
}

/// Whether a schema leaves something to be said by a format.
fn has_format(schema: &Value) -> bool {
    let schema = resolve(schema);
    let within = schema["anyOf"].as_array().into_iter().flatten().chain([&schema["items"]]);
    schema["format"].is_string() || within.filter(|inner| inner.is_object()).any(has_format)
}

fn places<'a>(pointer: &str, object: &'a Value) -> Vec<Place<'a>> {
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = object["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| Place {
            pointer: format!("{pointer}/{name}"),
            schema,
            is_required: required.contains(&name.as_str()),
        })
        .collect()
}

/// What was found wrong at a place or within it.
fn errors_at<'a>(answer: &'a Answer, pointer: &str) -> Vec<&'a str> {
    assert!(answer.status < 500, "{answer:?}");
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    let is_there = |found: &str| found == pointer || found.starts_with(&format!("{pointer}/"));
    errors
        .filter(|error| error["pointer"].as_str().is_some_and(is_there))
        .filter_map(|error| error["detail"].as_str())
        .collect()
}

/// What the reader knows, as it says it when it meets something else.
fn known_names(detail: &str) -> BTreeSet<&str> {
    let (_, names) = detail.split_once("known are ").unwrap_or_else(|| panic!("{detail}"));
    names.split(", ").collect()
}

fn body_of(route: Route) -> Option<(&'static Value, &'static Value)> {
    let content = &operation(route)["requestBody"]["content"]["application/json"];
    content.is_object().then(|| (&content["schema"], &content["example"]))
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_body_is_taken_or_refused_as_its_schema_says(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    let mut count = 0;
    for route in Route::ALL {
        let Some((schema, example)) = body_of(*route) else { continue };
        let prepared = prepare(&stage, TENANT, *route).await;
        let ask = async |body: &Value| stage.ask(&prepared.ask.clone().with_body(body)).await;
        let whole_body = validator_of(schema);
        assert!(whole_body.is_valid(example), "{route}: the example is not valid");
        let taken = ask(example).await;
        assert!((200..300).contains(&taken.status), "{route}: the example is not taken: {taken:?}");

        let mut found = Vec::new();
        objects(schema, example, "", &mut found);
        for (pointer, whole, object) in found {
            let unknown = format!("{pointer}/nonsense");
            let answer = ask(&set_at(example, &unknown, Some("x".into()))).await;
            let details = errors_at(&answer, &unknown);
            assert_eq!(details.len(), 1, "{route} takes {unknown}: {answer:?}");
            let own: BTreeSet<&str> =
                object["properties"].as_object().expect("fields").keys().map(String::as_str).collect();
            let known = match own.is_empty() {
                true => BTreeSet::new(),
                false => known_names(details[0]),
            };
            assert!(known.is_superset(&own), "{route} {pointer}: the reader knows {known:?}, the schema {own:?}");
            assert!(
                known.is_subset(&all_names(whole)),
                "{route} {pointer}: the reader knows {known:?}, the schema {own:?}"
            );

            // What can only be null is another branch's to say.
            for place in places(&pointer, object).into_iter().filter(|place| place.schema["type"] != "null") {
                let without = ask(&set_at(example, &place.pointer, None)).await;
                if place.is_required {
                    assert!(!errors_at(&without, &place.pointer).is_empty(), "{route} does without {}", place.pointer);
                }
                let validator = validator_of(place.schema);
                let is_loose = has_format(place.schema) || LOOKED_UP.contains(&place.pointer.as_str());
                for candidate in Candidates::of(place.schema, example.pointer(&place.pointer)) {
                    let body = set_at(example, &place.pointer, Some(candidate.clone()));
                    let answer = ask(&body).await;
                    let errors = errors_at(&answer, &place.pointer);
                    let shown: String = candidate.to_string().chars().take(80).collect();
                    let what =
                        format!("{route} with {shown} as {}: {errors:?}, status {}", place.pointer, answer.status);
                    if !validator.is_valid(&candidate) {
                        assert!(!errors.is_empty(), "{what}; the schema of the field refuses it");
                    } else if !whole_body.is_valid(&body) {
                        assert_eq!(answer.status, 422, "{what}; the schema of the body refuses it");
                    } else {
                        assert!(errors.is_empty() || is_loose, "{what}; the schema takes it");
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(count > 500, "{count} candidates are too few to have looked");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_query_is_taken_or_refused_as_its_schema_says(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for route in Route::ALL.iter().filter(|route| route.access() != Access::Public) {
        let prepared = prepare(&stage, TENANT, *route).await;
        let ask = async |name: &str, value: &str| {
            let query = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
            stage.ask(&prepared.ask.clone().with_query(&query)).await
        };
        let answer = ask("nonsense", "x").await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["?nonsense"]), "{route} takes any query");
        let detail = answer.body["errors"][0]["detail"].as_str().expect("a detail");
        let known = if route.query().is_empty() { BTreeSet::new() } else { known_names(detail) };
        assert_eq!(known, route.query().iter().copied().collect(), "{route}");
        for parameter in operation(*route)["parameters"].as_array().expect("parameters") {
            if parameter["in"] != "query" {
                continue;
            }
            let (name, schema) = (parameter["name"].as_str().expect("a name"), resolve(&parameter["schema"]));
            let validator = validator_of(schema);
            for candidate in Candidates::of(schema, None) {
                let text = match &candidate {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => continue,
                };
                let meant = match schema["type"] == "integer" {
                    true => serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_str())),
                    false => Value::from(text.as_str()),
                };
                let (answer, is_valid) = (ask(name, &text).await, validator.is_valid(&meant));
                let errors = errors_at(&answer, &format!("?{name}"));
                let is_loose = has_format(schema);
                assert!(is_valid || !errors.is_empty(), "{route} takes {name}={text:?}, the schema does not");
                assert!(!is_valid || errors.is_empty() || is_loose, "{route} refuses {name}={text:?}: {errors:?}");
            }
        }
    }
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_put_under_a_key_that_is_none_is_refused(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for route in Route::ALL.iter().filter(|route| route.method() == "PUT" && route.parameters().count() > 0) {
        let prepared = prepare(&stage, TENANT, *route).await;
        for parameter in operation(*route)["parameters"].as_array().expect("parameters") {
            if parameter["in"] != "path" {
                continue;
            }
            let (name, schema) = (parameter["name"].as_str().expect("a name"), resolve(&parameter["schema"]));
            let validator = validator_of(schema);
            for candidate in Candidates::of(schema, None) {
                let Some(text) = candidate.as_str() else { continue };
                let answer = stage.ask(&prepared.ask.clone().with_parameter(name, text)).await;
                let is_valid = validator.is_valid(&candidate);
                // What belongs to another thing is put only where that is.
                let may_be_refused = has_format(schema) || answer.status == 404;
                assert!([200, 404, 422].contains(&answer.status), "{route} {text:?}: {answer:?}");
                assert!(is_valid || answer.status != 200, "{route} takes {text:?}");
                assert!(!is_valid || answer.status == 200 || may_be_refused, "{route} {text:?}: {answer:?}");
            }
        }
    }
    stage.leave_work();
}
