//! The same question to several voters at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::ids::MemberId;
use crate::link::messages::{Reply, Request};
use crate::raft::core::Core;
use crate::raft::members::Membership;

/// Asks all of `whom`; who gives no reply within `limit` is left out.
pub(crate) fn ask(
    core: &Core,
    whom: impl IntoIterator<Item = MemberId>,
    request: &Request,
    limit: Duration,
) -> mpsc::UnboundedReceiver<(MemberId, Reply)> {
    let (tell, told) = mpsc::unbounded_channel();
    for voter in whom {
        let (asked, tell, request) = (core.clone(), tell.clone(), request.clone());
        core.tasks().spawn(async move {
            if let Ok(reply) = asked.link().call(voter, request, limit).await {
                // Nobody may count any more.
                let _ = tell.send((voter, reply));
            }
        });
    }
    told
}

/// When one has refused, the others are waited for so long: one that is cut off answers nothing at all, and who was asked
/// too early agrees soon.
const AFTER_REFUSAL: Duration = Duration::from_millis(150);

/// Asks the voters that are not among `agreed`, until a majority of each configuration has agreed. `false`: too few did.
pub(crate) async fn majority(
    core: &Core,
    membership: &Membership,
    mut agreed: BTreeSet<MemberId>,
    (request, limit): (Request, Duration),
    agrees: impl Fn(&Reply) -> bool,
) -> bool {
    let others = &membership.all_voters() - &agreed;
    let mut replies = ask(core, others, &request, limit);
    let mut refused = None;
    while !membership.is_quorum(|voter| agreed.contains(&voter)) {
        let reply = match refused {
            None => replies.recv().await,
            Some(until) => timeout_at(until, replies.recv()).await.ok().flatten(),
        };
        match reply {
            Some((voter, reply)) if agrees(&reply) => drop(agreed.insert(voter)),
            Some(_) => {
                let patience = core.clock().wait(AFTER_REFUSAL);
                refused.get_or_insert_with(|| Instant::now() + patience);
            }
            None => return false,
        }
    }
    true
}
