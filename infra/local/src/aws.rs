//! The few calls to the emulator that setting up needs. Unsigned: the emulator only reads the region and the service from the signature's scope.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::emulator::{ACCOUNT, REGION};
use crate::failure::{Failure, Outcome, While};

/// A caller of the emulator.
#[derive(Clone, Debug)]
pub struct Aws {
    endpoint: String,
    agent: ureq::Agent,
}

impl Aws {
    /// `endpoint` is the emulator's base URL.
    pub fn new(endpoint: impl Into<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(330)))
            .build();
        Self { endpoint: endpoint.into(), agent: config.into() }
    }

    /// CloudFormation, in the query protocol; answers XML.
    ///
    /// Errors: the call is refused.
    pub fn cloudformation(&self, action: &str, parameters: &[(&str, &str)]) -> Outcome<String> {
        let form = [("Action", action), ("Version", "2010-05-15")].into_iter().chain(parameters.iter().copied());
        let response = self
            .agent
            .post(format!("{}/", self.endpoint))
            .header("Authorization", scope("cloudformation"))
            .send_form(form)
            .while_doing(format_args!("calling CloudFormation {action}"))?;
        read(response, &format!("CloudFormation {action}"))
    }

    /// A service with the JSON protocol: `target` is the service's prefix and the action.
    ///
    /// Errors: the call is refused.
    pub fn json(&self, service: &str, target: &str, body: &Value) -> Outcome<Value> {
        let response = self
            .agent
            .post(format!("{}/", self.endpoint))
            .header("Authorization", scope(service))
            .header("X-Amz-Target", target)
            .header("Content-Type", "application/x-amz-json-1.1")
            .send(body.to_string())
            .while_doing(format_args!("calling {target}"))?;
        let text = read(response, target)?;
        serde_json::from_str(&text).while_doing(format_args!("reading the answer of {target}"))
    }

    /// Makes a bucket, unless it is there.
    ///
    /// Errors: the call is refused.
    pub fn make_bucket(&self, bucket: &str) -> Outcome<()> {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        match self.put(bucket, body.as_bytes()) {
            Err(refusal) if !refusal.to_string().contains("BucketAlreadyOwnedByYou") => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Puts an object.
    ///
    /// Errors: the call is refused.
    pub fn put_object(&self, bucket: &str, key: &str, body: &[u8]) -> Outcome<()> {
        self.put(&format!("{bucket}/{key}"), body)
    }

    fn put(&self, path: &str, body: &[u8]) -> Outcome<()> {
        let response = self
            .agent
            .put(format!("{}/{path}", self.endpoint))
            .header("Authorization", scope("s3"))
            .send(body)
            .while_doing(format_args!("putting {path} into S3"))?;
        read(response, &format!("S3 put {path}")).map(drop)
    }

    /// Sets a secret's value; the secret is made when there is none. Returns its ARN.
    ///
    /// Errors: the call is refused.
    pub fn set_secret(&self, name: &str, value: &str) -> Outcome<String> {
        let described = self.json("secretsmanager", "secretsmanager.DescribeSecret", &json!({"SecretId": name}));
        let answer = if described.is_ok() {
            let body = json!({"SecretId": name, "SecretString": value});
            self.json("secretsmanager", "secretsmanager.PutSecretValue", &body)?
        } else {
            let body = json!({"Name": name, "SecretString": value});
            self.json("secretsmanager", "secretsmanager.CreateSecret", &body)?
        };
        text_of(&answer, "ARN")
    }

    /// Sets the concurrency of event source mappings to the numbers that the template says.
    ///
    /// The emulator keeps a number that came through a parameter as text and then cannot compare with it, so that it
    /// would never poll the queue. AWS converts.
    ///
    /// Errors: a call is refused.
    pub fn mend_event_source_mappings(&self) -> Outcome<()> {
        let doing = "looking at the event source mappings";
        let url = format!("{}/2015-03-31/event-source-mappings", self.endpoint);
        let response =
            self.agent.get(format!("{url}/")).header("Authorization", scope("lambda")).call().while_doing(doing)?;
        let answer: Value = serde_json::from_str(&read(response, doing)?).while_doing(doing)?;
        for mapping in answer["EventSourceMappings"].as_array().into_iter().flatten() {
            let text = mapping["ScalingConfig"]["MaximumConcurrency"].as_str();
            if let Some(number) = text.and_then(|text| text.parse::<u32>().ok()) {
                let response = self
                    .agent
                    .put(format!("{url}/{}", text_of(mapping, "UUID")?))
                    .header("Authorization", scope("lambda"))
                    .send(json!({"ScalingConfig": {"MaximumConcurrency": number}}).to_string())
                    .while_doing(doing)?;
                read(response, "UpdateEventSourceMapping")?;
            }
        }
        Ok(())
    }

    /// Invokes a function and waits for its answer.
    ///
    /// Errors: the function failed; the message holds what it answered and logged.
    pub fn invoke(&self, function: &str, event: &Value) -> Outcome<Value> {
        let mut response = self
            .agent
            .post(format!("{}/2015-03-31/functions/{function}/invocations", self.endpoint))
            .header("Authorization", scope("lambda"))
            .header("X-Amz-Log-Type", "Tail")
            .send(event.to_string())
            .while_doing(format_args!("invoking {function}"))?;
        let log = response
            .headers()
            .get("x-amz-log-result")
            .and_then(|log| STANDARD.decode(log).ok())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default();
        let failed = response.headers().contains_key("x-amz-function-error") || !response.status().is_success();
        let text =
            response.body_mut().read_to_string().while_doing(format_args!("reading the answer of {function}"))?;
        if failed {
            let log: String =
                log.lines().filter(|line| line.starts_with('{')).map(|line| format!("\n    | {line}")).collect();
            return Err(Failure::new(format!("{function} failed: {text}{log}")));
        }
        serde_json::from_str(&text).while_doing(format_args!("reading the answer of {function}"))
    }
}

/// The text between an XML element's tags, where the element comes first.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The contents of all XML elements of a name.
pub fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    xml.split(&format!("<{name}>")).skip(1).filter_map(|rest| Some(rest.split_once(&format!("</{name}>"))?.0)).collect()
}

/// A text member of a JSON answer.
///
/// Errors: there is none.
pub fn text_of(answer: &Value, member: &str) -> Outcome<String> {
    answer[member]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("the emulator's answer has no {member}: {answer}")))
}

fn scope(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn read(mut response: ureq::http::Response<ureq::Body>, what: &str) -> Outcome<String> {
    let status = response.status();
    let text = response.body_mut().read_to_string().while_doing(format_args!("reading the answer of {what}"))?;
    if status.is_success() { Ok(text) } else { Err(Failure::new(format!("{what} was refused with {status}: {text}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name() {
        let xml = "<a><b>1</b><c><b>2</b></c></a>";
        assert_eq!(element(xml, "b"), Some("1"));
        assert_eq!(elements(xml, "b"), ["1", "2"]);
        assert_eq!(element(xml, "d"), None);
    }
}
