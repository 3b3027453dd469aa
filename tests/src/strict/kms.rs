//! A stand-in for KMS: data keys that open only under the encryption context that they were made with.
//!
//! Source: the API model of KMS (2014-11-01), `TrentService.GenerateDataKey` and `TrentService.Decrypt`, JSON 1.1.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::door::Door;

/// The only key there is.
pub const KEY_ARN: &str = "arn:aws:kms:ap-south-1:000000000000:key/00000000-0000-4000-8000-000000000000";

/// What was wrapped, by its ciphertext: under which context, and the key.
type Wrapped = Arc<Mutex<HashMap<String, (Value, String)>>>;

/// The running stand-in. Dropping it ends it.
#[derive(Debug)]
pub struct Kms {
    door: Door,
}

impl Kms {
    /// Binds a free port on 127.0.0.1.
    pub async fn start() -> std::io::Result<Self> {
        let router = Router::new().fallback(post(answer)).with_state(Wrapped::default());
        Ok(Self { door: Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router).await? })
    }

    /// The value for `AWS_ENDPOINT_URL_KMS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.door.address())
    }
}

async fn answer(State(wrapped): State<Wrapped>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refuse =
        |code: &str| (StatusCode::BAD_REQUEST, Json(json!({"__type": code, "message": target}))).into_response();
    let Ok(input) = serde_json::from_slice::<Value>(&body) else { return refuse("SerializationException") };
    if input["KeyId"] != KEY_ARN {
        return refuse("NotFoundException");
    }
    // The key's policy in `template.yaml` lets nothing through without it.
    let context = &input["EncryptionContext"];
    if context["tenant"].as_str().is_none_or(str::is_empty) {
        return refuse("AccessDeniedException");
    }
    let mut wrapped = wrapped.lock().unwrap_or_else(PoisonError::into_inner);
    match target {
        "TrentService.GenerateDataKey" if input["KeySpec"] == "AES_256" => {
            let plain =
                STANDARD.encode([uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat());
            let ciphertext = STANDARD.encode(uuid::Uuid::new_v4().into_bytes());
            wrapped.insert(ciphertext.clone(), (context.clone(), plain.clone()));
            Json(json!({"CiphertextBlob": ciphertext, "Plaintext": plain, "KeyId": KEY_ARN})).into_response()
        }
        "TrentService.Decrypt" => {
            let found = input["CiphertextBlob"].as_str().and_then(|ciphertext| wrapped.get(ciphertext));
            match found {
                Some((owner, plain)) if owner == context => {
                    Json(json!({"Plaintext": plain, "KeyId": KEY_ARN, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}))
                        .into_response()
                }
                _ => refuse("InvalidCiphertextException"),
            }
        }
        _ => refuse("UnsupportedOperationException"),
    }
}
