//! A small replicated key-value daemon, with a protocol of lines.
//!
//! `kvd DIRECTORY` prints `listening ADDRESS` and serves until SIGTERM; it exits with 1 when the store fails, with 4
//! when its lease is lost: whoever starts it starts it again; with 5 when it was removed from the cluster: nobody does.
//! Several that are to be one cluster, on one machine:
//!
//! ```text
//! kvctl secret > secret
//! for n in 1 2 3; do
//!     kvd --dir data$n --client 127.0.0.$n:7001 --listen 127.0.0.$n:7000 --join-secret-file secret \
//!         --founding founding --peers 127.0.0.1:7000,127.0.0.2:7000,127.0.0.3:7000 &
//! done
//! kvctl 127.0.0.2:7001 put key value
//! kvctl 127.0.0.3:7001 get key
//! ```
//!
//! What it meets goes to standard error, at the level `KVD_LOG` (`info`).
//!
//! A line is a request and is answered by one line (`watch`: by one for each event, until the client goes):
//!
//! | Request | Answer |
//! |---|---|
//! | `get KEY` | `value REVISION VALUE` or `none` |
//! | `put KEY VALUE` | `written REVISION` |
//! | `put-if KEY REVISION VALUE` (0: the key is not there) | `written REVISION`, `conflict REVISION` (0: not there) |
//! | `delete KEY [REVISION]` | `written REVISION`, `conflict REVISION` |
//! | `watch PREFIX` | `put REVISION KEY VALUE`, `removed REVISION KEY`, `orphaned REVISION OWNER`, `resync REVISION` |
//! | `status` | `status FIELD=VALUE …` |
//! | `hand-over [MEMBER]` | `handed-over MEMBER`: who leads now |
//! | `remove MEMBER`, `leave` | `removed`: that member, or this one, is none any more, for ever |
//! | `save FILE` | `saved INDEX FILE`: a snapshot, in the daemon's directory |
//! | `drain` | `drained`: leadership is handed over, nothing more is accepted |
//!
//! Anything that goes wrong is `error KIND REASON`; after `error unknown` a write may or may not have been done, after
//! every other error it was not. Keys and values are words.

#[path = "support/daemon/mod.rs"]
mod daemon;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    std::process::ExitCode::from(daemon::main(&arguments))
}
