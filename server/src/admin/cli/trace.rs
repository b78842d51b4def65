//! `eider trace`: headers of an account's stanzas as they come and go, until interrupted.

use super::ask::ask_with;
use super::{Global, output};
use crate::admin::accounts::date;
use crate::admin::protocol::{Failure, Reply, Request};
use crate::admin::trace::{Direction, TraceEvent};

/// Follows the account.
///
/// # Errors
/// Where no server runs or there is no such account.
pub async fn run(global: &Global, account: String) -> Result<(), Failure> {
    if !global.json {
        eprintln!("tracing {account}; Ctrl-C ends");
    }
    let json = global.json;
    ask_with(global, Request::Trace { account }, |reply| {
        if let Reply::Event { event } = reply {
            match json {
                true => output::json(&event),
                false => output::line(format_args!("{}", line(&event))),
            }
        }
    })
    .await?;
    Ok(())
}

fn line(event: &TraceEvent) -> String {
    let arrow = match event.direction {
        Direction::In => "->",
        Direction::Out => "<-",
    };
    let at = date(eider_storage::Timestamp(event.at_us));
    let mut text = format!("{at} {} {arrow} {}", event.session, event.kind);
    for (name, value) in [
        ("type", &event.stanza_type),
        ("id", &event.id),
        ("from", &event.from),
        ("to", &event.to),
    ] {
        if let Some(value) = value {
            text = format!("{text} {name}={value}");
        }
    }
    format!(
        "{text} [{}] {} bytes",
        event.payloads.join(", "),
        event.bytes
    )
}
