//! RFC 6121 §2: roster requests of clients.

use std::sync::Arc;

use eider_storage::AccountId;
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::payload::roster::{Change, Limits, parse_get, parse_set, query};
use tokio::sync::OwnedMutexGuard;

use crate::account::presence::{Effects, Presence, roster_limits, roster_push};
use crate::account::roster::{Got, Rosters};
use crate::c2s::mailbox::Delivery;
use crate::config::{Config, Feature};
use crate::xep::{Access, Answer, Request, Route, Target, handler};

/// Gets and sets of one's own roster.
pub fn routes(rosters: &Arc<Rosters>, presence: &Arc<Presence>) -> Vec<Route> {
    let parts = (rosters.clone(), presence.clone());
    vec![Route {
        target: Target::Account,
        ns: ns::ROSTER,
        name: "query",
        access: Access::Anyone,
        switch: Some(Feature::Roster),
        handler: handler(&parts, |(rosters, presence), request| async move {
            match (request.is_own(), request.set) {
                (true, false) => get(&rosters, request).await,
                (true, true) => set(rosters, presence, request).await,
                // RFC 6121 §2.3.3
                (false, true) => Err(StanzaError::new(StanzaCondition::Forbidden)),
                (false, false) => Err(StanzaError::new(StanzaCondition::ServiceUnavailable)),
            }
        }),
    }]
}

/// RFC 6121 §2.1.3 and §2.6. The roster stays locked until the answer is on its way, so that
/// no push of a later change comes before it.
async fn get(rosters: &Rosters, request: Request) -> Answer {
    let known = parse_get(&request.payload).map_err(|e| e.to_error())?;
    let session = request.own_session()?.clone();
    session.set_interested();
    let Some(account) = session.account else {
        return Ok(Some(query(None, [])));
    };
    let lock = rosters.lock(account).await;
    let got = rosters.get(account, known.as_deref()).await;
    let (result, pushes) = match got.map_err(|e| e.to_error())? {
        Got::Whole(query) => (Some(query), Vec::new()),
        Got::Changes(pushes) => (None, pushes),
    };
    request.afterwards.set(async move {
        for push in pushes {
            let push = roster_push(&session, push);
            let _ = session.mailbox.push(Delivery::answer(push));
        }
        drop(lock);
    });
    Ok(result)
}

/// RFC 6121 §2.3 to §2.5: the push, what a removed contact is told, then the result: who has it
/// knows that all of it is done.
async fn set(rosters: Arc<Rosters>, presence: Arc<Presence>, request: Request) -> Answer {
    let limits = Limits {
        max_groups: request.config.limits.roster_groups_per_item as usize,
        ..Limits::default()
    };
    let change = parse_set(&request.payload, &limits).map_err(|e| e.to_error())?;
    let session = request.own_session()?;
    let (Change::Put { jid, .. } | Change::Remove { jid }) = &change;
    let account = session
        .account
        .filter(|_| jid.as_str() != session.bare.as_str())
        .ok_or_else(|| StanzaError::new(StanzaCondition::NotAllowed))?;
    let roster = Own {
        rosters: &rosters,
        presence: &presence,
        account,
        bare: &request.to,
    };
    let (lock, push, effects) = roster.write(&request.config, change).await?;
    presence.push_roster(&request.to, &push);
    drop(lock);
    presence.carry_out(&request.config, effects).await;
    Ok(None)
}

type Written = (OwnedMutexGuard<()>, Element, Effects);

struct Own<'a> {
    rosters: &'a Rosters,
    presence: &'a Presence,
    account: AccountId,
    bare: &'a BareJid,
}

impl Own<'_> {
    async fn write(&self, config: &Config, change: Change) -> Result<Written, StanzaError> {
        let lock = self.rosters.lock(self.account).await;
        match change {
            Change::Put { jid, name, groups } => {
                let limits = roster_limits(config);
                let name = name.as_deref();
                let put = self.rosters.put(self.account, &jid, name, &groups, limits);
                let push = put.await.map_err(|e| e.to_error())?;
                Ok((lock, push, Effects::default()))
            }
            Change::Remove { jid } => {
                let removal = self.rosters.remove(self.account, &jid).await;
                let removal = removal.map_err(|e| e.to_error())?;
                let effects = self.presence.removed(self.bare, &jid.bare(), &removal);
                Ok((lock, removal.push, effects))
            }
        }
    }
}
