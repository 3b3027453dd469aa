//! The least that a client of SES can be: bytes on a kept connection. It shows what the stand-in itself takes.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Outcome;

/// Requests of each lane; the first, on a cold connection, is not counted.
const REQUESTS: u32 = 20;

/// The mean time of a request when so many connections send without a pause.
pub(crate) async fn measure_latency(ses_url: &str, concurrency: usize) -> Outcome<Duration> {
    let address = ses_url.trim_start_matches("http://").to_owned();
    let mut lanes = JoinSet::new();
    for _ in 0..concurrency {
        let address = address.clone();
        lanes.spawn(async move { run_lane(&address).await.map_err(|error| error.to_string()) });
    }
    let mut total = Duration::ZERO;
    for lane in lanes.join_all().await {
        total += lane?;
    }
    Ok(total / u32::try_from(concurrency.max(1))?)
}

async fn run_lane(address: &str) -> Outcome<Duration> {
    let request = print_request();
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    send(&mut stream, &request).await?;
    let began = Instant::now();
    for _ in 1..REQUESTS {
        send(&mut stream, &request).await?;
    }
    Ok(began.elapsed() / (REQUESTS - 1))
}

async fn send(stream: &mut TcpStream, request: &str) -> Outcome<()> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The answer's body is one JSON object without another in it, so its brace ends the answer.
    while !answer.ends_with(b"}") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the stand-in for SES closed the connection".into());
        }
    }
    if answer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(format!("the stand-in for SES refused: {}", String::from_utf8_lossy(&answer)).into())
    }
}

/// About the request that `processor` makes for the notifications of the benches.
fn print_request() -> String {
    let utf8 = |data: &str| json!({"Data": data, "Charset": "UTF-8"});
    let body = json!({
        "FromEmailAddress": "post@example.in",
        "Destination": {"ToAddresses": ["asha@example.org"]},
        "Content": {"Simple": {
            "Subject": utf8("The hall is open"),
            "Body": {"Text": utf8("Come at six."), "Html": utf8("<p>Come at six.</p>")}
        }},
        "EmailTags": [{"Name": "nid", "Value": "ntf_0"}, {"Name": "att", "Value": "1"}, {"Name": "t", "Value": "0"}],
        "ConfigurationSetName": "bench"
    })
    .to_string();
    let authorization =
        "AWS4-HMAC-SHA256 Credential=bench/20261121/ap-south-1/ses/aws4_request, SignedHeaders=host, Signature=0";
    format!(
        "POST /v2/email/outbound-emails HTTP/1.1\r\nhost: ses\r\ncontent-type: application/json\r\n\
         authorization: {authorization}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
