//! Addresses that a command prints, one a line as in a file. It runs in a process group of its own, which ends with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::{Discovery, DiscoveryError, file::lines};
use crate::limits::DISCOVERY_BYTES;
use crate::transport::BoxFuture;

/// One run.
const LIMIT: Duration = Duration::from_secs(8);
const GLANCE: Duration = Duration::from_millis(10);

/// See the module's documentation. Anything but success is an error, and so is more than [`DISCOVERY_BYTES`].
#[derive(Debug, Clone)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    name: String,
    limit: Duration,
}

/// Ends the group while its leader has not been waited for, so that the number is nobody else's.
struct Group(Option<Pid>);

impl Group {
    fn end(&mut self) {
        if let Some(leader) = self.0.take() {
            // No such group: it has ended by itself.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

fn failed(error: impl std::fmt::Display) -> DiscoveryError {
    DiscoveryError(error.to_string())
}

impl Command {
    /// No shell is between: `program` is a path or is looked for in `PATH`.
    pub fn new(program: impl Into<String>, arguments: Vec<String>) -> Self {
        let program = program.into();
        let name = format!("command {program}");
        let limit = LIMIT;
        Self {
            program,
            arguments,
            name,
            limit,
        }
    }

    async fn run(&self) -> Result<Vec<String>, DiscoveryError> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        // Dropped before the child is, also when this future is dropped: locals go in the reverse order.
        let mut group = Group(leader);
        let ended = timeout(self.limit, output(&mut child, leader)).await;
        group.end();
        let status = child.wait().await.map_err(failed)?;
        let (text, status) = match ended {
            Ok(output) => (output?, status),
            Err(_) => return Err(failed("the command took too long")),
        };
        succeeded(status)?;
        lines(&text)
    }
}

fn succeeded(status: ExitStatus) -> Result<(), DiscoveryError> {
    match status.success() {
        true => Ok(()),
        false => Err(DiscoveryError(format!("the command ended with {status}"))),
    }
}

/// What it prints, once it has ended. It is not waited for: its group is still to be ended.
async fn output(child: &mut Child, leader: Option<Pid>) -> Result<String, DiscoveryError> {
    let out = child.stdout.take().ok_or_else(|| failed("no output"))?;
    let mut bytes = Vec::new();
    let limit = DISCOVERY_BYTES as u64 + 1;
    let mut out = out.take(limit);
    out.read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() > DISCOVERY_BYTES {
        return Err(failed(format!(
            "it printed more than {DISCOVERY_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(failed)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Some(leader) = leader {
        match waitid(WaitId::Pid(leader), options) {
            Ok(None) | Err(Errno::INTR) => sleep(GLANCE).await,
            Ok(Some(_)) | Err(_) => break,
        }
    }
    Ok(text)
}

impl Discovery for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>> {
        Box::pin(self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SystemRandom};

    fn shell(script: &str, limit: Duration) -> Command {
        let mut command = Command::new("sh", vec!["-c".into(), script.into()]);
        command.limit = limit;
        command
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_a_command_prints_is_found() {
        let found = shell("echo one:1; echo '# none'; echo two:2", LONG)
            .run()
            .await;
        assert_eq!(found, Ok(vec!["one:1".to_owned(), "two:2".to_owned()]));
        let closes_early = shell("echo one:1; exec >&-; sleep 0.1; exit 3", LONG)
            .run()
            .await;
        assert!(closes_early.expect_err("it fails").0.contains('3'));
        assert!(Command::new("/nonexistent/x", vec![]).run().await.is_err());
        assert!(shell("printf '\\377'", LONG).run().await.is_err());
    }

    #[tokio::test]
    async fn one_that_prints_for_ever_is_ended() {
        let endless = shell("while :; do echo one:1; done", LONG).run().await;
        let error = endless.expect_err("too much").0;
        assert!(error.contains("printed more than"), "{error}");
    }

    /// Of the name given to a sleep that would outlive the test.
    fn runs(mark: &str) -> bool {
        let processes = std::fs::read_dir("/proc").expect("there is one");
        let mut lines = processes.flatten().map(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).into_owned()
        });
        lines.any(|line| line.starts_with("sleep") && line.contains(mark))
    }

    #[tokio::test]
    async fn its_whole_group_ends_with_it() {
        let mark = format!("600.{}", SystemRandom.u64());
        let late = shell(
            &format!("sleep {mark} & sleep {mark}"),
            Duration::from_millis(300),
        );
        assert!(late.run().await.is_err());
        let left = format!("sleep {mark} >&- 2>&- & echo one:1");
        assert_eq!(shell(&left, LONG).run().await, Ok(vec!["one:1".to_owned()]));
        let given_up = shell(&format!("sleep {mark}"), LONG);
        assert!(
            timeout(Duration::from_millis(300), given_up.run())
                .await
                .is_err()
        );
        // Killed at once, gone when somebody has waited for them.
        for _ in 0..500 {
            if !runs(&mark) {
                return;
            }
            sleep(GLANCE).await;
        }
        panic!("a process of the group goes on");
    }
}
