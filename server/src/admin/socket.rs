//! The control socket: a Unix socket in the data directory that only the server's own user can open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::commands::Commands;
use super::protocol::{Failure, FailureKind, LINE_BYTES, Reply, Request};

/// Commands that run at once; further ones wait.
const COMMANDS_AT_ONCE: usize = 32;

/// Replies made and not written yet.
const REPLIES_WAITING: usize = 64;

/// Opens the socket. One that is there was left by a killed server, for the data directory is this process's own.
///
/// # Errors
/// What the system says.
pub fn bind(path: &Path) -> io::Result<ControlSocket> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Nobody else gets in between bind and chmod: the data directory is the server's own (0700).
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(ControlSocket {
        listener,
        path: path.to_owned(),
    })
}

/// The open socket; its file goes with it.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlSocket {
    /// Serves requests until the token is cancelled.
    pub async fn serve(self, commands: Arc<Commands>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("control socket: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let (commands, stop) = (commands.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = connection(stream, &commands) => {}
                    () = stop.cancelled() => {}
                }
                drop(slot);
            });
        }
    }
}

async fn connection(stream: UnixStream, commands: &Commands) {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read).take(LINE_BYTES as u64);
    let mut line = String::new();
    match reader.read_line(&mut line).await {
        Ok(n) if n > 0 => {}
        _ => return,
    }
    let (sender, mut replies) = mpsc::channel(REPLIES_WAITING);
    let work = async move {
        match serde_json::from_str::<Request>(&line) {
            Ok(request) => commands.run(request, &sender).await,
            Err(e) => {
                let what = format!("the server does not understand this: {e}");
                let failure = Failure::new(FailureKind::Usage, what)
                    .hint("is this eider of the same version as the server?");
                // The asker may be gone.
                let _ = sender.send(Reply::Failed { failure }).await;
            }
        }
    };
    let answer = async move {
        let mut gone = [0; 1];
        loop {
            let reply = tokio::select! {
                reply = replies.recv() => reply,
                // The asker says nothing more: whatever can be read is its end.
                _ = reader.read(&mut gone) => None,
            };
            let Some(reply) = reply else { return };
            let Ok(mut line) = serde_json::to_vec(&reply) else {
                return;
            };
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    // Work of an asker who is gone goes on to its end, traces aside: those see their channel closed.
    tokio::join!(work, answer);
}

/// A request under way, seen from the asker.
pub struct Asking {
    lines: tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    _write: tokio::net::unix::OwnedWriteHalf,
}

impl Asking {
    /// Sends a request to the server that listens there; `None` where none does.
    ///
    /// # Errors
    /// What the system says, as missing permission.
    pub async fn start(path: &Path, request: &Request) -> io::Result<Option<Self>> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let (read, mut write) = stream.into_split();
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        Ok(Some(Self {
            lines: BufReader::new(read).lines(),
            _write: write,
        }))
    }

    /// The next reply; `None` where the server is gone.
    ///
    /// # Errors
    /// What the system says, or a line that is no reply.
    pub async fn next(&mut self) -> io::Result<Option<Reply>> {
        match self.lines.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}
