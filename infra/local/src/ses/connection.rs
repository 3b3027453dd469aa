//! One TCP connection: ordinary HTTP/1.1, until a request's handler asks for an ending that HTTP has no words for.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

/// How long answers under way may take once the server stops; one that never comes must not hold it up.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How a connection ends in the middle of an exchange.
#[derive(Debug)]
pub enum Ending {
    /// An orderly close (FIN) without a byte.
    Close,
    /// A reset (RST).
    Reset,
    /// These bytes, then an orderly close.
    Write(Bytes),
}

/// A handler's means to end the connection that its request came on.
#[derive(Clone, Debug)]
pub struct ConnectionEnd(mpsc::Sender<Ending>);

impl ConnectionEnd {
    /// Ends the connection. Never returns: the caller's request is gone with it.
    pub async fn end(self, ending: Ending) -> Infallible {
        // A closed channel means that the connection has ended already.
        let _ = self.0.send(ending).await;
        std::future::pending().await
    }
}

/// Serves one connection until the peer leaves, a handler ends it, or the server stops.
pub async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let (sender, mut endings) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectionEnd(sender.clone()));
        router.clone().oneshot(request)
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ending = tokio::select! {
        // A peer that breaks off is the peer's affair.
        _ = &mut connection => return,
        Some(ending) = endings.recv() => Some(ending),
        _ = stop.wait_for(|stopped| *stopped) => None,
    };
    match ending {
        Some(ending) => end_connection(connection.into_parts().io.into_inner(), ending).await,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            let _ = tokio::time::timeout(STOP_GRACE, connection).await;
        }
    }
}

/// The peer may be gone by now; then there is nobody to disappoint, so errors are dropped.
async fn end_connection(mut stream: TcpStream, ending: Ending) {
    match ending {
        Ending::Close => {
            let _ = stream.shutdown().await;
        }
        Ending::Reset => {
            let _ = stream.set_zero_linger();
        }
        Ending::Write(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}
