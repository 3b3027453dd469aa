//! What the sections share: the database behind its counting proxy, the stand-ins, and functions set up to use them.

use std::time::Duration;

use local::runtime_api::Function;
use local::ses::{SesConfig, SesHandle, SesServer};
use serde_json::{Value, json};
use tests::strict::{KEY_ARN, Kms};
use url::Url;

use crate::aws::{AwsStandIn, Message};
use crate::bench_database::BenchDatabase;
use crate::events::{
    CATEGORY, DIGEST_CATEGORY, KNOWN_CATEGORY, RHYTHM_CATEGORY, TEMPLATE, http_event, post_notifications, sqs_event,
};
use crate::functions::binary;
use crate::wire::CountingProxy;
use crate::{Outcome, progress};

/// Longer than any function may take, so that a slow machine is no failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Whether a function reaches Postgres through the proxy that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Through the proxy.
    Counted,
    /// Straight, for what is timed.
    Direct,
}

/// The stage, set.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) database: BenchDatabase,
    pub(crate) proxy: CountingProxy,
    pub(crate) aws: AwsStandIn,
    pub(crate) ses: SesHandle,
    kms: Kms,
}

impl Stage {
    /// Makes everything, and the categories of what is sent.
    pub(crate) async fn set_up() -> Outcome<Self> {
        let database = BenchDatabase::create().await?;
        let stage = Self {
            proxy: CountingProxy::start(database.server_address()).await?,
            database,
            aws: AwsStandIn::start().await?,
            ses: SesServer::start(SesConfig::default()).await?,
            kms: Kms::start().await?,
        };
        stage.configure().await?;
        Ok(stage)
    }

    /// Puts what a tenant has before it sends anything.
    async fn configure(&self) -> Outcome<()> {
        let api = self.start_function("api", Path::Direct).await?;
        let template =
            json!({"variables": {}, "variants": [{"locale": "en", "subject": "News", "text": "There is news."}]});
        let digest = json!({"class": "digest", "template": TEMPLATE});
        let rhythm = json!({
            "class": "digest", "template": TEMPLATE, "quiet_hours_apply": false,
            "digest": {"cadence": "daily", "roles": ["round"], "send_empty": true},
        });
        let known = json!({"class": "transactional", "template": TEMPLATE, "digest_category": DIGEST_CATEGORY});
        for (route, key, body) in [
            ("PUT /v1/templates/{key}", TEMPLATE, template),
            ("POST /v1/templates/{key}/publish", TEMPLATE, json!({})),
            ("PUT /v1/categories/{key}", CATEGORY, json!({"class": "transactional"})),
            ("PUT /v1/categories/{key}", DIGEST_CATEGORY, digest),
            ("PUT /v1/categories/{key}", RHYTHM_CATEGORY, rhythm),
            ("PUT /v1/categories/{key}", KNOWN_CATEGORY, known),
        ] {
            let (method, path) = route.split_once(' ').unwrap_or_default();
            let answer = api.invoke(&http_event(method, path, &path.replace("{key}", key), &body), LIMIT).await?;
            match answer["statusCode"].as_u64() {
                Some(200 | 201 | 204) => {}
                _ => return Err(format!("{route} for {key}: {answer}").into()),
            }
        }
        Ok(())
    }

    /// Ends everything and drops the database.
    pub(crate) async fn tear_down(self) -> Outcome<()> {
        progress("dropping the database");
        self.ses.stop().await;
        self.database.drop().await
    }

    /// Starts a function whose mails go to the stage's own stand-in for SES.
    pub(crate) async fn start_function(&self, name: &str, path: Path) -> Outcome<Function> {
        self.start_function_with_ses(name, path, &self.ses.url()).await
    }

    /// Starts a function whose mails go to the given stand-in for SES.
    pub(crate) async fn start_function_with_ses(&self, name: &str, path: Path, ses_url: &str) -> Outcome<Function> {
        let mut url = match name {
            "enqueue" | "api" => self.database.api_url()?,
            _ => self.database.worker_url()?,
        };
        if path == Path::Counted {
            point_at_proxy(&mut url, &self.proxy)?;
        }
        let env = [
            ("DATABASE_URL", url.to_string()),
            ("QUEUE_URL", self.aws.queue_url()),
            ("DLQ_URL", self.aws.dlq_url()),
            ("EVENT_BUS_NAME", "bench".to_owned()),
            ("SES_CONFIGURATION_SET", "bench".to_owned()),
            ("FROM_ADDRESS", "post@example.in".to_owned()),
            ("AWS_REGION", "ap-south-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "bench".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "bench".to_owned()),
            ("AWS_SESSION_TOKEN", "bench".to_owned()),
            ("AWS_ENDPOINT_URL", self.aws.url()),
            ("AWS_ENDPOINT_URL_SESV2", ses_url.to_owned()),
            ("AWS_ENDPOINT_URL_KMS", self.kms.url()),
            ("DATA_KEY_ARN", KEY_ARN.to_owned()),
            ("PUBLIC_URL", "https://notices.example.in".to_owned()),
            ("LOG_LEVEL", "warn".to_owned()),
        ];
        Ok(Function::start(binary(name), env).await.map_err(|error| format!("{name}: {error}"))?)
    }

    /// Posts so many notifications and returns the messages that `enqueue` published for them.
    ///
    /// Errors: an answer other than 202 for every one, or another number of messages.
    pub(crate) async fn enqueue(&self, enqueue: &Function, count: usize, round: usize) -> Outcome<Vec<Message>> {
        self.aws.take_messages();
        let answer = enqueue.invoke(&post_notifications(count, round), LIMIT).await?;
        if answer["statusCode"] != 202 {
            return Err(format!("enqueue answered {answer}").into());
        }
        let messages = self.aws.take_messages();
        if messages.len() == count {
            Ok(messages)
        } else {
            Err(format!("{count} notifications made {} messages; {:?}", messages.len(), enqueue.output()).into())
        }
    }

    /// Hands messages to `processor` as one event. Errors: it wants one of them back.
    pub(crate) async fn process(&self, processor: &Function, messages: &[Message]) -> Outcome<()> {
        let answer = processor.invoke(&sqs_event(messages), LIMIT).await?;
        match answer["batchItemFailures"].as_array().map(Vec::len) {
            Some(0) => Ok(()),
            _ => Err(format!("processor answered {}; {:?}", short(&answer), processor.output()).into()),
        }
    }
}

fn point_at_proxy(url: &mut Url, proxy: &CountingProxy) -> Outcome<()> {
    url.set_host(Some(&proxy.address().ip().to_string()))?;
    url.set_port(Some(proxy.address().port())).map_err(|()| "DATABASE_URL takes no port")?;
    Ok(())
}

fn short(answer: &Value) -> String {
    answer.to_string().chars().take(500).collect()
}
