//! A server's way in, which a test can shut: then nobody is there, as when a service is down.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use local::ses::connection::serve_connection;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A listening port and the connections that came in by it. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    router: Router,
    serving: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens; port 0 takes any that is free.
    pub(super) async fn open(address: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let serving = Some(tokio::spawn(serve(listener, router.clone())));
        Ok(Self { address, router, serving })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections and ends those that are open.
    pub(super) async fn shut(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Only when the task is gone, the port is free.
            let _ = serving.await;
        }
    }

    /// Listens at the same port again.
    pub(super) async fn reopen(&mut self) -> io::Result<()> {
        if self.serving.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            self.serving = Some(tokio::spawn(serve(listener, self.router.clone())));
        }
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

/// Serves until it is aborted, and its connections with it.
async fn serve(listener: TcpListener, router: Router) {
    let (_stay, stop) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that died between SYN and accept is no reason to end.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, router.clone(), stop.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
