//! The process of one execution environment.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Lines of output that are kept, the newest.
const LINES_MAX: usize = 2_000;

/// The newest lines that a child wrote to its standard output and error, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    pub(super) fn lines(&self) -> Vec<String> {
        // The lock guards pushes of whole lines; a panic cannot leave half of one.
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    async fn collect(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(stream) = stream else { return };
        let mut lines = BufReader::new(stream).lines();
        // A broken pipe or a line that is no UTF-8 ends the collection, not the function.
        while let Ok(Some(line)) = lines.next_line().await {
            self.push(line);
        }
    }
}

/// Starts a binary with Lambda's environment and nothing of this process's own.
///
/// Errors: the binary is missing or cannot be run.
pub(super) fn spawn_child(
    binary: &Path,
    api: SocketAddr,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Result<Child> {
    Command::new(binary)
        .env_clear()
        .envs(lambda_env(binary, api))
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Waits for the end of a child and collects what it writes until then.
pub(super) async fn watch_child(mut child: Child, output: Output) -> io::Result<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // The pipes close when the child ends, so its last words are in before its end is told.
    let (status, (), ()) = tokio::join!(child.wait(), output.collect(stdout), output.collect(stderr));
    status
}

/// The variables that Lambda sets for a custom runtime, as far as runtimes read them.
fn lambda_env(binary: &Path, api: SocketAddr) -> [(&'static str, OsString); 10] {
    let name = binary.file_stem().unwrap_or_default().to_owned();
    let root = binary.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
    [
        ("AWS_LAMBDA_RUNTIME_API", api.to_string().into()),
        ("AWS_LAMBDA_FUNCTION_NAME", name),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".into()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "local".into()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "local".into()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
        ("LAMBDA_TASK_ROOT", root),
        ("_HANDLER", "bootstrap".into()),
        ("TZ", ":UTC".into()),
    ]
}
