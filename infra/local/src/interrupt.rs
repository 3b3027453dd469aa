//! Ctrl-C, for commands that have something to end before they end.

use std::sync::mpsc::{Receiver, channel};

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Outcome, While};

/// From now on Ctrl-C and a request to terminate do not end this command; they arrive at the receiver.
///
/// Programs that this command waits for still get Ctrl-C themselves, so what is under way fails and the command goes on
/// to its end.
///
/// Errors: signals cannot be watched.
pub fn watch() -> Outcome<Receiver<()>> {
    let doing = "watching for Ctrl-C";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().while_doing(doing)?;
    let (mut interrupted, mut terminated) = {
        let _runtime = runtime.enter();
        (signal(SignalKind::interrupt()).while_doing(doing)?, signal(SignalKind::terminate()).while_doing(doing)?)
    };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                }
                if sender.send(()).is_err() {
                    break;
                }
            }
        });
    });
    Ok(receiver)
}
