//! The fields that tell a caller how many requests are left.
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>

use super::http::Response;
use crate::store::limits::{Bucket, RequestLimit};

/// The answer with the fields; as it is where there is no limit.
/// The policy is the bucket: what it holds, and how long it takes to fill. Who keeps to that is never refused.
pub fn with_limit(response: Response, limit: Option<&RequestLimit>) -> Response {
    let Some(RequestLimit { bucket, quota, window_seconds, remaining, reset_seconds, .. }) = limit else {
        return response;
    };
    let policy = match bucket {
        Bucket::Tenant => "tenant",
        Bucket::Recipient => "recipient",
    };
    response
        .with_header("ratelimit-policy", format!("\"{policy}\";q={quota};w={window_seconds}"))
        .with_header("ratelimit", format!("\"{policy}\";r={remaining};t={reset_seconds}"))
}
