//! Asking the running server; where none runs and the request needs only the database, opening that.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Global;
use super::output::Progress;
use crate::admin::commands::{Commands, ConfigSource, not_running};
use crate::admin::protocol::{Failure, FailureKind, Reply, Request};
use crate::admin::socket::Asking;
use crate::config::Config;
use crate::lifecycle::DataDirectory;

/// Sends the request and gives the typed result.
///
/// # Errors
/// Why it was not done.
pub async fn ask<T: DeserializeOwned>(global: &Global, request: Request) -> Result<T, Failure> {
    let mut progress = Progress::new(global);
    let result = ask_with(global, request, |reply| {
        if let Reply::Progress { what, done } = reply {
            progress.show(&what, done);
        }
    });
    let value = result.await;
    progress.end();
    serde_json::from_value(value?).map_err(|e| {
        Failure::new(
            FailureKind::Failed,
            format!("the server's answer is not understood: {e}"),
        )
        .hint("is this eider of the same version as the server?")
    })
}

/// Sends the request, hands over every reply but the last, and gives the last.
///
/// # Errors
/// Why it was not done.
pub async fn ask_with(
    global: &Global,
    request: Request,
    mut on_reply: impl FnMut(Reply),
) -> Result<Value, Failure> {
    let config = global.load()?;
    let socket = config.control_socket();
    let asking = Asking::start(&socket, &request).await.map_err(|e| {
        let failure = Failure::new(FailureKind::Failed, format!("{}: {e}", socket.display()));
        match e.kind() {
            io::ErrorKind::PermissionDenied => {
                failure.hint("run this as the user the server runs as: sudo -u eider …")
            }
            _ => failure,
        }
    })?;
    let Some(mut asking) = asking else {
        return offline(config, request, on_reply).await;
    };
    loop {
        match asking.next().await {
            Ok(Some(Reply::Done { result })) => return Ok(result),
            Ok(Some(Reply::Failed { failure })) => return Err(failure),
            Ok(Some(reply)) => on_reply(reply),
            Ok(None) => {
                let what = "the server stopped before the answer";
                return Err(Failure::new(FailureKind::NotRunning, what));
            }
            Err(e) => return Err(Failure::new(FailureKind::Failed, e.to_string())),
        }
    }
}

/// Whether the database alone can answer.
fn needs_only_the_database(request: &Request) -> bool {
    matches!(
        request,
        Request::UserAdd { .. }
            | Request::UserPasswd { .. }
            | Request::UserRemove { .. }
            | Request::UserShow { .. }
            | Request::UserList { .. }
            | Request::UserEnable { .. }
            | Request::Database
            | Request::Backup { .. }
    )
}

async fn offline(
    config: Config,
    request: Request,
    mut on_reply: impl FnMut(Reply),
) -> Result<Value, Failure> {
    if !needs_only_the_database(&request) {
        return Err(not_running());
    }
    let _directory = own_data_directory(&config.data_directory).await?;
    let storage = eider_storage::open(&config.storage_config()).await?;
    let config = ConfigSource::Fixed(Arc::new(config));
    let commands = Commands {
        storage: storage.clone(),
        config,
        live: None,
    };
    let (sender, mut replies) = mpsc::channel(64);
    // Owns the sender: it goes with the work, which ends the reading below.
    let work = async move { commands.run(request, &sender).await };
    let read = async {
        let mut last = Err(Failure::new(FailureKind::Failed, "no answer"));
        while let Some(reply) = replies.recv().await {
            match reply {
                Reply::Done { result } => last = Ok(result),
                Reply::Failed { failure } => last = Err(failure),
                reply => on_reply(reply),
            }
        }
        last
    };
    let ((), last) = tokio::join!(work, read);
    storage.close().await;
    last
}

/// How often and how long a command waits for another one, or for a server that is stopping.
const TAKE_PAUSE: Duration = Duration::from_millis(100);
const TAKE_TRIES: u32 = 50;

/// Takes the data directory, which is made where there is none, and sees that it is this user's: files of
/// another's making would keep the server from starting.
///
/// # Errors
/// Where it is another user's, in use, or cannot be made.
pub async fn own_data_directory(path: &Path) -> Result<DataDirectory, Failure> {
    match path.metadata() {
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            let what = format!("{} is another user's", path.display());
            let hint = format!("run this as that user: sudo -u '#{}' …", meta.uid());
            return Err(Failure::new(FailureKind::Failed, what).hint(hint));
        }
        _ => {}
    }
    let mut taken = DataDirectory::take(path);
    for _ in 0..TAKE_TRIES {
        if !matches!(&taken, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        tokio::time::sleep(TAKE_PAUSE).await;
        taken = DataDirectory::take(path);
    }
    taken.map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => {
            let what = format!("{}: another eider uses it", path.display());
            let hint = "wait until it has started or stopped, and run this again";
            Failure::new(FailureKind::Failed, what).hint(hint)
        }
        _ => Failure::new(FailureKind::Failed, format!("{}: {e}", path.display()))
            .hint("run this as the user the server runs as: sudo -u eider …"),
    })
}
