//! XEP-0313: Message Archive Management, with XEP-0431 full text and XEP-0441 preferences

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use eider_storage::{
    AccountId, ArchiveDefault, ArchiveFilter, ArchivePage, ArchivePreferences, ArchivedRow,
    Direction, Fence, PageRequest, Position, Storage, Timestamp,
};
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::delay::Delay;
use eider_xmpp::payload::forwarding;
use eider_xmpp::payload::mam::{self, DefaultPolicy, Preferences, Query};
use eider_xmpp::payload::rsm::{self, Page};
use eider_xmpp::stanza::Stanza;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::account::facts::AccountFacts;
use crate::account::stanza_ids::StanzaIds;
use crate::c2s::mailbox::{Delivery, STANZA_OVERHEAD_BYTES};
use crate::cluster::sessions::SessionHandle;
use crate::config::{ArchiveDefault as HostDefault, ArchiveForce, Config, Feature, Host};
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, storage_error};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 313,
    name: "Message Archive Management",
    version: "1.1.3",
    status: Status::Complete,
    note: "",
    features: &[
        (Target::Account, ns::MAM),
        (Target::Account, ns::MAM_EXTENDED),
    ],
    switch: Some(Feature::Archive),
};

/// XEP-0431.
pub const FULLTEXT_SPEC: Spec = Spec {
    number: 431,
    name: "Full Text Search in MAM",
    version: "0.3.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Account, ns::FULLTEXT)],
    switch: Some(Feature::FullText),
};

/// XEP-0441.
pub const PREFERENCES_SPEC: Spec = Spec {
    number: 441,
    name: "Message Archive Management Preferences",
    version: "0.2.0",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: Some(Feature::Archive),
};

/// Bytes of one page; of one that is cut the client asks for the rest.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// What a result adds to its message, in bytes.
const WRAPPING_BYTES: usize = 512 + STANZA_OVERHEAD_BYTES;
/// Rows counted where only their number is asked for.
const MAX_COUNTED: u32 = 100_000;

/// Queries, preferences and metadata of archives.
pub struct Archives {
    storage: Arc<dyn Storage>,
    facts: Arc<AccountFacts>,
    ids: Arc<StanzaIds>,
    fence: Fence,
    gates: Mutex<HashMap<AccountId, Weak<Semaphore>>>,
}

fn refuse(condition: StanzaCondition) -> StanzaError {
    StanzaError::new(condition)
}

fn query_error(error: &mam::Error) -> StanzaError {
    let condition = match error {
        mam::Error::UnknownField(_) => StanzaCondition::FeatureNotImplemented,
        mam::Error::Form | mam::Error::Value(_) | mam::Error::Preferences => {
            StanzaCondition::BadRequest
        }
    };
    refuse(condition).text(error.to_string())
}

impl Archives {
    /// Archives in this database, their ids made by `ids`.
    pub fn new(
        storage: Arc<dyn Storage>,
        facts: Arc<AccountFacts>,
        ids: Arc<StanzaIds>,
        fence: Fence,
    ) -> Archives {
        Archives {
            storage,
            facts,
            ids,
            fence,
            gates: Mutex::new(HashMap::new()),
        }
    }

    /// The three payloads.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        ["query", "metadata", "prefs"]
            .map(|name| Route {
                target: Target::Account,
                ns: ns::MAM,
                name,
                access: Access::Own,
                switch: Some(Feature::Archive),
                handler: handler(
                    self,
                    |this, request| async move { this.request(request).await },
                ),
            })
            .into()
    }

    async fn request(&self, request: Request) -> Answer {
        let session = request.own_session()?.clone();
        let account = session
            .account
            .ok_or_else(|| refuse(StanzaCondition::ServiceUnavailable))?;
        match (request.payload.name(), request.set) {
            ("query", true) => self.query(&request, &session, account).await,
            ("query", false) => Ok(Some(mam::query_form(has_fulltext(
                &request.config,
                request.host(),
            )))),
            ("metadata", false) => self.metadata(account).await,
            ("prefs", false) => self.preferences(&request).await,
            ("prefs", true) => self.set_preferences(&request, account).await,
            _ => Err(refuse(StanzaCondition::BadRequest)),
        }
    }

    /// Keeps an account from having too many queries under way.
    fn gate(&self, account: AccountId, at_once: u32) -> Arc<Semaphore> {
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(&account).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Semaphore::new(at_once.max(1) as usize));
        gates.insert(account, Arc::downgrade(&gate));
        gate
    }

    async fn query(
        &self,
        request: &Request,
        session: &Arc<SessionHandle>,
        account: AccountId,
    ) -> Answer {
        let query = Query::parse(&request.payload).map_err(|error| query_error(&error))?;
        if query.node.is_some() {
            return Err(refuse(StanzaCondition::ItemNotFound));
        }
        if query.text.is_some() && !has_fulltext(&request.config, request.host()) {
            return Err(refuse(StanzaCondition::FeatureNotImplemented));
        }
        let asked = query.set.as_ref().map(rsm::Request::parse).transpose();
        let asked = asked
            .map_err(|_| refuse(StanzaCondition::BadRequest))?
            .unwrap_or_default();
        let (filter, page) = self.plan(request, account, &query, &asked).await?;
        let gate = self.gate(account, request.config.archive.queries_per_account);
        let _turn = gate.acquire().await;
        let found = self.storage.archive_query(account, &filter, &page).await;
        let found = found.map_err(|error| storage_error(&error))?;
        Ok(Some(self.send(session, account, &query, &page, found)))
    }

    /// The query as storage takes it; ids that are not in the archive are refused (§4.1.3, §4.3.2).
    async fn plan(
        &self,
        request: &Request,
        account: AccountId,
        query: &Query,
        asked: &rsm::Request,
    ) -> Result<(ArchiveFilter, PageRequest), StanzaError> {
        let mut named = Vec::new();
        let mut position = |id: &String| -> Result<Position, StanzaError> {
            let position = self.ids.decode(account, id).map(Position);
            let position = position.ok_or_else(|| refuse(StanzaCondition::ItemNotFound))?;
            named.push(position);
            Ok(position)
        };
        let mut filter = ArchiveFilter {
            with: query
                .with
                .as_ref()
                .map(|jid| (jid.bare_str().to_owned(), jid.resource().map(str::to_owned))),
            start: query.start.map(Timestamp),
            end: query.end.map(Timestamp),
            after: query.after_id.as_ref().map(&mut position).transpose()?,
            before: query.before_id.as_ref().map(&mut position).transpose()?,
            ids: query
                .ids
                .as_ref()
                .map(|ids| ids.iter().map(&mut position).collect())
                .transpose()?,
            text: query.text.clone(),
        };
        let (direction, anchor) = match &asked.position {
            rsm::Position::First => (Direction::Forward, None),
            rsm::Position::After(id) => (Direction::Forward, Some(position(id)?)),
            rsm::Position::Before(id) => (Direction::Backward, Some(position(id)?)),
            rsm::Position::Last => (Direction::Backward, None),
            rsm::Position::Index(_) => {
                return Err(refuse(StanzaCondition::FeatureNotImplemented));
            }
        };
        if let Some(until) = &asked.until {
            let until = position(until)?;
            filter.before = Some(filter.before.map_or(until, |before| before.min(until)));
        }
        self.all_exist(account, &named).await?;
        let config = &request.config.archive;
        let limit = asked
            .max
            .unwrap_or(config.page_messages)
            .min(config.page_max_messages);
        let count_max = if limit == 0 { MAX_COUNTED } else { 0 };
        Ok((
            filter,
            PageRequest {
                direction,
                anchor,
                limit,
                bytes_max: MAX_PAGE_BYTES as u64,
                count_max,
            },
        ))
    }

    async fn all_exist(&self, account: AccountId, named: &[Position]) -> Result<(), StanzaError> {
        if named.is_empty() {
            return Ok(());
        }
        let exist = self.storage.archive_exists(account, named).await;
        let exist = exist.map_err(|error| storage_error(&error))?;
        if exist.iter().all(|exists| *exists) {
            Ok(())
        } else {
            Err(refuse(StanzaCondition::ItemNotFound))
        }
    }

    /// Sends the results, then answers with `<fin/>`.
    fn send(
        &self,
        session: &SessionHandle,
        account: AccountId,
        query: &Query,
        page: &PageRequest,
        found: ArchivePage,
    ) -> Element {
        let backwards = page.direction == Direction::Backward;
        let shown = fitting(&found.rows, backwards, MAX_PAGE_BYTES);
        let complete = found.complete && shown.len() == found.rows.len();
        let mut results: Vec<Stanza> = shown
            .iter()
            .filter_map(|row| self.result(session, account, query, row))
            .collect();
        if query.flip {
            results.reverse();
        }
        for result in results {
            let _ = session.mailbox.push(Delivery::answer(result));
        }
        let id = |row: &ArchivedRow| self.ids.encode(account, row.pos.0);
        let ends = shown.first().map(id).zip(shown.last().map(id));
        let set = Page {
            ends: ends
                .as_ref()
                .map(|(first, last)| (first.as_str(), last.as_str())),
            index: None,
            count: found.count.and_then(|count| usize::try_from(count).ok()),
        };
        mam::fin(complete, set.to_element())
    }

    /// §4.2: one result.
    fn result(
        &self,
        session: &SessionHandle,
        account: AccountId,
        query: &Query,
        row: &ArchivedRow,
    ) -> Option<Stanza> {
        let Ok(stored) = Stanza::parse_stored(row.bytes.clone()) else {
            tracing::error!(%account, position = row.pos.0, "an archived message cannot be read");
            return None;
        };
        let result = Element::new("result", ns::MAM)
            .with_attr_opt("queryid", query.query_id.as_deref())
            .with_attr("id", self.ids.encode(account, row.pos.0));
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", session.bare.as_str())
            .with_attr("to", session.full.as_str())
            .with_child(result);
        let delay = Delay::new(row.at.0, session.bare.clone());
        let mut forwarded = String::with_capacity(row.bytes.len() + WRAPPING_BYTES);
        forwarding::write(&mut forwarded, &stored, Some(&delay));
        let xml = message.to_xml();
        let (before, after) = xml.split_once("/></message>").expect("the result is empty");
        let xml = format!("{before}>{forwarded}</result></message>{after}");
        Stanza::parse_stored(Bytes::from(xml)).ok()
    }

    async fn metadata(&self, account: AccountId) -> Answer {
        let found = self.storage.archive_metadata(account).await;
        let found = found.map_err(|error| storage_error(&error))?;
        let Some((first, last)) = found.first.zip(found.last) else {
            return Ok(Some(mam::metadata(None)));
        };
        let id = |(position, _): (Position, Timestamp)| self.ids.encode(account, position.0);
        let (start, end) = (id(first), id(last));
        Ok(Some(mam::metadata(Some([
            (&start, first.1.0),
            (&end, last.1.0),
        ]))))
    }

    async fn preferences(&self, request: &Request) -> Answer {
        let facts = self
            .facts
            .load(&request.to)
            .await
            .map_err(|error| storage_error(&error))?;
        let chosen = facts.and_then(|facts| facts.archive_preferences.clone());
        Ok(Some(effective(request.host(), chosen).to_element()))
    }

    async fn set_preferences(&self, request: &Request, account: AccountId) -> Answer {
        if request.host().archive_force != ArchiveForce::None {
            return Err(refuse(StanzaCondition::NotAllowed));
        }
        let wanted = Preferences::parse(&request.payload).map_err(|error| query_error(&error))?;
        let bytes: usize = wanted
            .always
            .iter()
            .chain(&wanted.never)
            .map(String::len)
            .sum();
        if bytes > request.config.limits.preferences_bytes as usize {
            return Err(StanzaError::over("preferences_bytes"));
        }
        let stored = ArchivePreferences {
            default: match wanted.default {
                DefaultPolicy::Always => ArchiveDefault::Always,
                DefaultPolicy::Never => ArchiveDefault::Never,
                DefaultPolicy::Roster => ArchiveDefault::Roster,
            },
            always: wanted.always.clone(),
            never: wanted.never.clone(),
        };
        let written = self
            .storage
            .archive_preferences_set(self.fence, account, &stored)
            .await;
        self.facts.forget(request.to.as_str());
        written.map_err(|error| storage_error(&error))?;
        Ok(Some(wanted.to_element()))
    }
}

/// Whether archives of a host can be searched by words.
pub(super) fn has_fulltext(config: &Config, host: &Host) -> bool {
    let on = |feature| host.has(feature);
    config.archive.full_text && on(Feature::FullText) && on(Feature::Archive)
}

/// What holds for the account: the host's word, its own, or the host's default.
fn effective(host: &Host, chosen: Option<ArchivePreferences>) -> Preferences {
    let plain = |default| Preferences {
        default,
        always: Vec::new(),
        never: Vec::new(),
    };
    match (host.archive_force, chosen) {
        (ArchiveForce::On, _) => plain(DefaultPolicy::Always),
        (ArchiveForce::Off, _) => plain(DefaultPolicy::Never),
        (ArchiveForce::None, Some(chosen)) => Preferences {
            default: match chosen.default {
                ArchiveDefault::Always => DefaultPolicy::Always,
                ArchiveDefault::Never => DefaultPolicy::Never,
                ArchiveDefault::Roster => DefaultPolicy::Roster,
            },
            always: chosen.always,
            never: chosen.never,
        },
        (ArchiveForce::None, None) => plain(match host.archive {
            HostDefault::Always => DefaultPolicy::Always,
            HostDefault::Never => DefaultPolicy::Never,
            HostDefault::Roster => DefaultPolicy::Roster,
        }),
    }
}

/// The rows that fit, from the side that the page was asked for; one always does.
fn fitting(rows: &[ArchivedRow], backwards: bool, most: usize) -> &[ArchivedRow] {
    let mut sum = 0usize;
    let mut fits = |row: &ArchivedRow| {
        sum = sum.saturating_add(row.bytes.len() + WRAPPING_BYTES);
        sum <= most
    };
    let count = if backwards {
        rows.iter().rev().take_while(|row| fits(row)).count()
    } else {
        rows.iter().take_while(|row| fits(row)).count()
    };
    let count = count.max(1).min(rows.len());
    if backwards {
        &rows[rows.len() - count..]
    } else {
        &rows[..count]
    }
}

#[cfg(test)]
mod tests {
    use eider_storage::{MessageKind, RowFlags};

    use super::*;

    fn rows(sizes: &[usize]) -> Vec<ArchivedRow> {
        let row = |(at, size): (usize, &usize)| ArchivedRow {
            pos: Position(at as i64 + 1),
            at: Timestamp(0),
            flags: RowFlags::default(),
            kind: MessageKind::Chat,
            peer: "a@b".into(),
            peer_resource: None,
            bytes: Bytes::from(vec![b'x'; *size]),
        };
        sizes.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_page_is_cut_from_the_far_side() {
        let rows = rows(&[1000, 1000, 1000]);
        let two = 2 * (1000 + WRAPPING_BYTES);
        let positions = |rows: &[ArchivedRow]| rows.iter().map(|r| r.pos.0).collect::<Vec<_>>();
        assert_eq!(positions(fitting(&rows, false, two)), [1, 2]);
        assert_eq!(positions(fitting(&rows, true, two)), [2, 3]);
        assert_eq!(positions(fitting(&rows, true, 10)), [3]);
        assert!(fitting(&[], false, 10).is_empty());
    }

    #[test]
    fn the_host_has_the_last_word_on_archiving() {
        let mut host = Host::named("example.org");
        let chosen = ArchivePreferences {
            default: ArchiveDefault::Never,
            ..Default::default()
        };
        assert_eq!(effective(&host, None).default, DefaultPolicy::Always);
        assert_eq!(
            effective(&host, Some(chosen.clone())).default,
            DefaultPolicy::Never
        );
        host.archive_force = ArchiveForce::On;
        assert_eq!(
            effective(&host, Some(chosen)).default,
            DefaultPolicy::Always
        );
    }
}
