//! The daemon behind `kvd`: a member of the store, and a protocol of lines for whoever asks it. Tests start it from
//! their own binary.

pub mod requests;
pub mod settings;

use std::io::Write as _;
use std::time::Duration;

use raft_store::Store;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

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

#[derive(Debug, thiserror::Error)]
#[error("the lease is lost: this member was cut off, stopped, or without a majority for too long")]
struct LeaseLost;

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
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(serve(&arguments)) {
        Ok(()) => 0,
        Err(error) => {
            complain(&*error);
            match error.is::<LeaseLost>() {
                true => LEASE_LOST,
                false => 1,
            }
        }
    }
}

/// Says what went wrong, if there still is somewhere to write it.
fn complain(error: &dyn std::error::Error) {
    let _ = writeln!(std::io::stderr(), "kvd: {error}");
}

async fn serve(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Whoever asks while the store opens is told so, or waits.
    let (opened, open) = tokio::sync::watch::channel(None);
    let listener = TcpListener::bind(arguments.client).await?;
    println!("listening {}", listener.local_addr()?);
    tokio::spawn(listen(listener, open, arguments.deadline));
    let (settings, parts) = arguments.parts().await?;
    let (store, mut fatal) = raft_store::open(settings, parts).await?;
    opened.send_replace(Some(store.clone()));
    let lease = store.lease();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        // Dead inside and alive outside is the worst that a daemon can be.
        failed = fatal.wait() => failed.map_or(Ok(()), |failed| Err(failed.into())),
        // What this run owned is others' now. The next one begins with nothing.
        () = lease.lost() => Err(LeaseLost.into()),
        refused = refused(&store) => Err(refused.into()),
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

async fn listen(listener: TcpListener, open: Opened, deadline: Duration) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(client(stream, open.clone(), deadline))),
            // Too many files: some client will go.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits for a reason why this member will never be ready: it was removed, or is of another cluster.
async fn refused(store: &Store) -> raft_store::Error {
    loop {
        match store.ready(Instant::now() + OPENING).await {
            Ok(_) => return std::future::pending().await,
            // Not yet.
            Err(raft_store::Error::NoQuorum) => {}
            Err(error) => return error,
        }
    }
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
            return requests::watch(&mut write, &store, prefix).await;
        }
        let answer = requests::answer(&store, &words, deadline).await;
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}
