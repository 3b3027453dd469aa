//! Places where a test may stop a running function: [`failpoint!`](crate::failpoint!).
//!
//! A place asks whoever listens at the address in `FAILPOINTS` and does what it is told: goes on, panics, fails, or
//! waits for an answer that never comes, until the process is killed there. So the signal is a real one, sent by the test
//! that holds the process, and the test knows exactly how far the process had come.
//!
//! Only builds with the feature `failpoints` hold any of it; elsewhere the macro is nothing, names included.

/// A place where a test may stop the function, by its name.
///
/// `failpoint!("E5_committed")` may panic or never go on. `failpoint!("E5_committed", Err(error))` may also return that.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoint::fails_at($name);
    };
    ($name:literal, $failure:expr) => {
        if $crate::failpoint::fails_at($name) {
            return $failure;
        }
    };
}

/// A place where a test may stop the function; nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($($anything:tt)*) => {};
}

/// Waits for word on what to do here, and says whether the step has to fail.
///
/// It holds the whole thread: a stopped process does nothing else meanwhile either.
#[cfg(feature = "failpoints")]
pub fn fails_at(name: &str) -> bool {
    match ask(name).as_deref() {
        Some("panic") => panic!("told to panic at {name}"),
        Some("error") => true,
        // Nobody listens, or there is nothing to do.
        _ => false,
    }
}

#[cfg(feature = "failpoints")]
fn ask(name: &str) -> Option<String> {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(crate::env::optional("FAILPOINTS")?).ok()?;
    writeln!(stream, "{} {name}", std::process::id()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    Some(answer.trim_end().to_owned())
}
