//! A gate in front of a service: while it is shut, nobody gets through, as when a network or a service is down.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A gate on a port of 127.0.0.1. Shut, it refuses connections and has broken off those that were open.
#[derive(Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
}

impl Gate {
    /// Opens a gate on `port`, leading to `to`.
    ///
    /// Errors: the port is taken.
    pub async fn start(port: u16, to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (open, seen) = watch::channel(true);
        tokio::spawn(keep(listener, port, to, seen));
        Ok(Self { open })
    }

    /// Opens or shuts the gate.
    pub fn set(&self, state: GateState) {
        self.open.send_replace(state == GateState::Open);
    }
}

/// What a gate can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateState {
    /// Connections pass.
    Open,
    /// Connections are refused.
    Shut,
}

async fn keep(first: TcpListener, port: u16, to: SocketAddr, mut open: watch::Receiver<bool>) {
    let mut listener = Some(first);
    loop {
        if let Some(listener) = listener.take() {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(pass(stream, to));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                    shut = open.wait_for(|open| !open) => {
                        if shut.is_err() {
                            return;
                        }
                        break;
                    }
                }
            }
            // Dropping the set breaks its connections off.
        }
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(again) => listener = Some(again),
            // Somebody took the port while the gate was shut; it stays shut until it is theirs no more.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn pass(mut from: TcpStream, to: SocketAddr) {
    if let Ok(mut to) = TcpStream::connect(to).await {
        // Either side may end as it likes.
        let _ = from.set_nodelay(true);
        let _ = to.set_nodelay(true);
        let _ = copy_bidirectional(&mut from, &mut to).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    /// Connects again and again until it ends as awaited, which no test waits for longer than this.
    async fn connect_until(
        port: u16,
        awaited: &str,
        is_awaited: impl Fn(&std::io::Result<TcpStream>) -> bool,
    ) -> std::io::Result<TcpStream> {
        let connect = async {
            loop {
                let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                if is_awaited(&connected) {
                    return connected;
                }
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        tokio::time::timeout(limit, connect).await.unwrap_or_else(|_| panic!("waited {limit:?} for {awaited}"))
    }

    #[tokio::test]
    async fn a_shut_gate_refuses_and_breaks_off_and_an_opened_one_lets_pass_again() {
        let port = crate::process::free_port().unwrap();
        let gate = Gate::start(port, echo().await).await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');

        gate.set(GateState::Shut);
        assert!(stream.read_u8().await.is_err(), "a shut gate breaks open connections off");
        // A child that another test is starting holds a copy of the listener until it runs its own program.
        connect_until(port, "a shut gate to refuse connections", Result::is_err).await.unwrap_err();

        gate.set(GateState::Open);
        let mut stream = connect_until(port, "an opened gate to let somebody pass", Result::is_ok).await.unwrap();
        stream.write_all(b"y").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
    }
}
