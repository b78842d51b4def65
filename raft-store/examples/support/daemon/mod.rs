//! The daemon behind `kvd`: a member of the store, and a protocol of lines for whoever asks it. Tests start it from
//! their own binary.

mod clocks;
pub mod requests;
pub mod settings;

use std::io::Write as _;
use std::time::Duration;

use raft_store::{Fatal, FatalWatch, Store};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use settings::{Arguments, USAGE};

/// How long the store may take until it serves: a member that joins waits for the others.
const OPENING: Duration = Duration::from_secs(300);
/// How long handing leadership over may take when the daemon is to end.
const DRAIN: Duration = Duration::from_secs(5);
const LINE_BYTES: u64 = 128 << 10;

/// The exit code of a run that others have, or will have, declared dead: whoever starts daemons starts it again.
pub const LEASE_LOST: u8 = 4;

/// The exit code of a member that was removed: its directory is of no use any more, and nobody starts it again.
pub const REMOVED: u8 = 5;
/// Until a member that was removed ends: whoever asked it to leave is told. And for a failing store to say why.
const FAREWELL: Duration = Duration::from_millis(200);
/// Until one that leaves is removed, from the loss of its lease on: the leader waits until all that it granted is over.
const LEAVING: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("the lease is lost: this member was cut off, stopped, or without a majority for too long")]
struct LeaseLost;

#[derive(Debug, thiserror::Error)]
#[error("this member was removed from the cluster")]
struct Removed;

/// The store, when it is open.
type Opened = tokio::sync::watch::Receiver<Option<Store>>;

/// The whole daemon, with what stands behind its name on the command line.
pub fn main(arguments: &[String]) -> u8 {
    let arguments = match Arguments::read(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("kvd: {error}\n{USAGE}");
            return 2;
        }
    };
    let level = std::env::var("KVD_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let targets = Targets::new().with_target("raft_store", level.unwrap_or(Level::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would panic where nothing can be written any more.
        .log_internal_errors(false)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .init();
    // Consensus has a runtime of its own: whatever clients ask for holds up no heartbeat.
    let [members, clients] = ["members", "clients"].map(runtime);
    let ended = members.block_on(serve(&arguments, clients.handle()));
    // Nobody waits for what still runs: a daemon that has failed is a process that ends.
    clients.shutdown_background();
    members.shutdown_background();
    match ended {
        Ok(()) => 0,
        Err(error) => {
            complain(&*error);
            match () {
                () if error.is::<LeaseLost>() => LEASE_LOST,
                () if error.is::<Removed>() => REMOVED,
                () => 1,
            }
        }
    }
}

fn runtime(name: &str) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.thread_name(name).enable_all().build();
    runtime.expect("a runtime")
}

/// Says what went wrong, if there still is somewhere to write it.
fn complain(error: &dyn std::error::Error) {
    let _ = writeln!(std::io::stderr(), "kvd: {error}");
}

async fn serve(arguments: &Arguments, clients: &Handle) -> Result<(), Box<dyn std::error::Error>> {
    // Whoever asks while the store opens is told so, or waits.
    let (opened, open) = tokio::sync::watch::channel(None);
    let client = arguments.client;
    let listener = clients.spawn(TcpListener::bind(client)).await?;
    let listener = listener.map_err(|error| format!("--client {client}: {error}"))?;
    println!("listening {}", listener.local_addr()?);
    clients.spawn(listen(listener, open, arguments.deadline));
    let (settings, parts) = arguments.parts().await?;
    let (store, mut fatal) = raft_store::open(settings, parts).await?;
    opened.send_replace(Some(store.clone()));
    let lease = store.lease();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        // Dead inside and alive outside is the worst that a daemon can be.
        failed = fatal.wait() => ended(&store, failed).await,
        // What this run owned is others' now. The next one begins with nothing.
        () = lease.lost() => lost(&store, &mut fatal).await,
        refused = refused(&store) => match refused {
            raft_store::Error::Removed => Err(Removed.into()),
            // It has failed, and says why in a moment: perhaps it was removed, and nobody starts it again.
            raft_store::Error::Closed => match timeout(DRAIN, fatal.wait()).await {
                Ok(failed) => ended(&store, failed).await,
                Err(_) => Err(raft_store::Error::Closed.into()),
            },
            other => Err(other.into()),
        },
        _ = terminate.recv() => {
            // Nobody to hand over to: the others elect, which takes longer.
            if let Err(error) = store.drain(Instant::now() + DRAIN).await {
                complain(&error);
            }
            store.shutdown().await;
            Ok(())
        }
    }
}

/// A store that fails loses its lease as well, and so does one that leaves.
async fn lost(store: &Store, fatal: &mut FatalWatch) -> Result<(), Box<dyn std::error::Error>> {
    let patience = match store.is_leaving() {
        true => LEAVING,
        false => FAREWELL,
    };
    match timeout(patience, fatal.wait()).await {
        Ok(failed) => ended(store, failed).await,
        Err(_) => Err(LeaseLost.into()),
    }
}

/// Why the store has ended; `None`: it was shut down.
async fn ended(store: &Store, failed: Option<Fatal>) -> Result<(), Box<dyn std::error::Error>> {
    if store.is_removed() {
        tokio::time::sleep(FAREWELL).await;
        return Err(Removed.into());
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

async fn listen(listener: TcpListener, open: Opened, deadline: Duration) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(client(stream, open.clone(), deadline))),
            // Too many files: some client will go.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits for a reason why this member will never be ready: it was removed, or reads no format of the cluster.
async fn refused(store: &Store) -> raft_store::Error {
    loop {
        match store.ready(Instant::now() + OPENING).await {
            Ok(_) => return std::future::pending().await,
            // Not yet. Where the record names another cluster a person decides; this member goes on meanwhile.
            Err(raft_store::Error::NoQuorum | raft_store::Error::OtherCluster(_)) => {}
            Err(error) => return error,
        }
    }
}

/// Waits until the client has gone; what it still says is not heard.
async fn gone(read: &mut (impl AsyncReadExt + Unpin)) {
    let mut heard = [0; 1024];
    while matches!(read.read(&mut heard).await, Ok(1..)) {}
}

/// The store, once it is ready for requests.
async fn ready(open: &mut Opened) -> Option<Store> {
    let store = open.wait_for(Option::is_some).await.ok()?.clone()?;
    store.ready(Instant::now() + OPENING).await.ok()?;
    Some(store)
}

/// Serves a connection until it ends; what goes wrong with it concerns nobody else.
async fn client(
    mut stream: TcpStream,
    mut open: Opened,
    deadline: Duration,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let length = (&mut read).take(LINE_BYTES).read_line(&mut line).await?;
        if length == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            // Half a request is none: its client has ended in its middle, or it is too long.
            return write
                .write_all(b"error usage a line that does not end\n")
                .await;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let deadline = Instant::now() + deadline;
        if words[..] == ["status"] {
            let answer = requests::status(open.borrow().as_ref());
            write.write_all(format!("{answer}\n").as_bytes()).await?;
            continue;
        }
        let Ok(Some(store)) = tokio::time::timeout_at(deadline, ready(&mut open)).await else {
            write
                .write_all(b"error not-ready the store is not open yet\n")
                .await?;
            continue;
        };
        if let ["watch", prefix] = words[..] {
            // Also where nothing happens below the prefix, a watch ends with its client.
            return tokio::select! {
                biased;
                told = requests::watch(&mut write, &store, prefix) => told,
                () = gone(&mut read) => Ok(()),
            };
        }
        let answer = requests::answer(&store, &words, deadline).await;
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}
