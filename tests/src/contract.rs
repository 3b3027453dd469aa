//! Holds answers to the OpenAPI document: every status, content type, header and body of every test has to be in it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use adapters::wire::openapi;
use adapters::wire::routes::Route;
use jsonschema::{Draft, ValidationOptions, Validator};
use serde_json::Value;

use crate::stage::Answer;

/// The document.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// Validators that have been made, by the pointers of their schemas: making one takes longer than many tests.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// What the document says of a route.
pub fn operation(route: Route) -> &'static Value {
    &DOCUMENT["paths"][route.path()][route.method().to_lowercase()]
}

/// Follows a `$ref` of the document, if there is one.
pub fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(target) => resolve(DOCUMENT.pointer(target.trim_start_matches('#')).expect("a component")),
        None => value,
    }
}

/// A validator of a schema of the document. Formats are left to what reads them: they say more than a schema can.
pub fn validator_of(schema: &Value) -> Validator {
    build(jsonschema::options(), schema)
}

fn build(options: ValidationOptions<'_>, schema: &Value) -> Validator {
    let mut whole = schema.clone();
    whole["components"] = DOCUMENT["components"].clone();
    let built = options.with_draft(Draft::Draft202012).build(&whole);
    built.unwrap_or_else(|error| panic!("{error}: {schema}"))
}

/// Fails where an answer is none that the document tells of. What matches no route is a problem and no more.
pub fn check_answer(route: &str, answer: &Answer) {
    let content_type = answer.headers["content-type"].as_str().unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default();
    let Some(route) = Route::of(route) else {
        assert_eq!((answer.status, content_type), (404, "application/problem+json"), "{route}: {answer:?}");
        return;
    };
    let documented = resolve(&operation(route)["responses"][answer.status.to_string()]);
    assert!(documented.is_object(), "{route}: the OpenAPI document knows no status {}: {answer:?}", answer.status);
    let known = documented["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase());
    let known: Vec<String> = known.chain(["content-type".to_owned()]).collect();
    for name in answer.headers.as_object().expect("headers").keys() {
        assert!(known.contains(name), "{route}: the OpenAPI document knows no header {name} of {}", answer.status);
    }
    if documented["content"].is_null() {
        assert_eq!((content_type, &answer.body), ("", &Value::Null), "{route}: nothing is said with {}", answer.status);
        return;
    }
    let schema = &documented["content"][content_type]["schema"];
    assert!(schema.is_object(), "{route}: the OpenAPI document knows no {content_type} of {}", answer.status);
    if content_type.ends_with("json") {
        let key = format!("{route} {} {content_type}", answer.status);
        let validator = {
            let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                validators
                    .entry(key)
                    .or_insert_with(|| Arc::new(build(jsonschema::options().should_validate_formats(true), schema))),
            )
        };
        let errors: Vec<_> =
            validator.iter_errors(&answer.body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{route} answers {} with what is not in its schema: {errors:#?}", answer.status);
    }
}
