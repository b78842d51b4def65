//! XEP-0191 §3.3 and §3.4: presence where a JID is blocked or is not any more.

use eider_xmpp::jid::{BareJid, Jid};

use super::{Own, Presence, refuses, unavailable_of};
use crate::cluster::sessions::SessionHandle;

impl Presence {
    /// The account has just blocked `jids`: each of them that saw its presence sees it as
    /// unavailable from now on. To be called once the new list is in force.
    ///
    /// # Errors
    /// Storage's.
    pub async fn blocked(
        &self,
        account: &BareJid,
        jids: &[Jid],
    ) -> Result<(), eider_storage::Error> {
        let own = self.own(account).await?;
        for session in self.sessions.of(account.as_str()) {
            let gone = unavailable_of(&session.full.to_jid());
            for jid in jids {
                for to in self.watching(&own, &session, jid) {
                    session.remove_directed(&to);
                    self.deliver(&to, &gone).await;
                }
            }
        }
        Ok(())
    }

    /// The account does not block `jids` any more: contacts among them see its presence again,
    /// and it sees theirs.
    ///
    /// # Errors
    /// Storage's.
    pub async fn unblocked(
        &self,
        account: &BareJid,
        jids: &[Jid],
    ) -> Result<(), eider_storage::Error> {
        let own = self.own(account).await?;
        let named = |contact: &BareJid| jids.iter().any(|jid| covers(jid, &contact.to_jid()));
        for contact in own.contacts.iter().filter(|contact| named(&contact.jid)) {
            if own.blocks(&contact.jid.to_jid()) {
                continue;
            }
            let theirs = self.own(&contact.jid).await?;
            if refuses(theirs.facts.as_deref(), &account.to_jid()) {
                continue;
            }
            if contact.state.from() {
                self.show_account(account, &contact.jid, false);
            }
            if theirs.contacts.state(account.as_str()).from() {
                self.show_account(&contact.jid, account, false);
            }
        }
        Ok(())
    }

    /// Whom that `jid` covers a session's presence is known to: contacts, and those it was
    /// directed to.
    fn watching(&self, own: &Own, session: &SessionHandle, jid: &Jid) -> Vec<Jid> {
        let mut watching: Vec<Jid> = session.directed();
        if session.priority().is_some() {
            let contacts = own.contacts.iter().filter(|contact| contact.state.from());
            for contact in contacts.filter(|contact| same_account(jid, &contact.jid)) {
                // A full JID or one of a domain's resources is told alone.
                let whole = jid.resource().is_none();
                watching.push(
                    match contact.jid.with_resource(jid.resource().unwrap_or("x")) {
                        Ok(full) if !whole => full.into(),
                        _ => contact.jid.to_jid(),
                    },
                );
            }
        }
        watching.retain(|to| covers(jid, to));
        watching.sort_unstable();
        watching.dedup();
        watching
    }
}

/// Whether the entry `jid` of a block list concerns the account at all.
fn same_account(jid: &Jid, account: &BareJid) -> bool {
    jid.domain() == account.domain()
        && (jid.localpart().is_none() || jid.localpart() == account.localpart())
}

/// XEP-0191 §2.1: the four forms of a JID in a block list.
fn covers(jid: &Jid, other: &Jid) -> bool {
    jid.domain() == other.domain()
        && (jid.localpart().is_none() || jid.localpart() == other.localpart())
        && (jid.resource().is_none() || jid.resource() == other.resource())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_covers_what_it_names() {
        let jid = |text: &str| Jid::parse(text).expect("test input");
        for (entry, other, covered) in [
            ("a@x", "a@x", true),
            ("a@x", "a@x/r", true),
            ("a@x", "b@x", false),
            ("x", "a@x/r", true),
            ("x", "a@y", false),
            ("a@x/r", "a@x/r", true),
            ("a@x/r", "a@x", false),
            ("x/r", "a@x/r", true),
            ("x/r", "a@x/s", false),
        ] {
            assert_eq!(covers(&jid(entry), &jid(other)), covered, "{entry} {other}");
        }
    }
}
