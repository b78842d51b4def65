//! What a person does when a cluster cannot help itself; no store runs on the directories meanwhile (DESIGN §9).
//!
//! [`recover`] makes a new cluster of one survivor's disk, [`restore`] of a saved snapshot, [`refound`] of nothing. Each new
//! cluster has a UUID, a member id and a directory of its own: what was before is left as it was, and its members are
//! none of the new cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::clock::WallClock;
use crate::config::{Parts, Settings};
use crate::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use crate::error::OpenError;
use crate::founding::{Created, Founding, FoundingRecord, NOBODY, RecordError};
use crate::identity::{Belongs, Identity, mint};
use crate::ids::{BootNonce, ClusterId, Incarnation, MemberId, ProposalId};
use crate::raft::{core, offline};
use crate::snapshot::file;
use crate::snapshot::paced::load;
use crate::snapshot::publish::{Published, Snapshots};
use crate::state::State;
use crate::transport::registry::RESERVED_PREFIX;

/// Indexes, incarnations and revisions of the new cluster begin so much later: what the lost disks may have counted is
/// never counted again, so fencing tokens and versions that the world outside remembers stay what they were.
const LEAP: u64 = 1 << 40;
/// And no earlier than this for each second since 1970, far more than any cluster counts in one: so it is also above what
/// clusters counted that were made of the same disks or snapshots before, and are lost, too.
const A_SECOND: u64 = 1 << 22;
/// Keys of the store's own removed by one entry.
const REMOVED_AT_ONCE: usize = 100;
/// One call of the founding record, and how often it is repeated.
const RECORD_LIMIT: Duration = Duration::from_secs(10);
const RECORD_CALLS: u32 = 8;
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// A new cluster, in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Keys that it begins with.
    pub keys: usize,
    /// Entries at the end of a survivor's log that nothing on its disk says were committed: they were taken, since any of
    /// them may have been acknowledged, so writes that nobody was told of may now have happened.
    pub uncertain_entries: u64,
}

/// Why nothing, or not all, was done. What a call has written until then is no member's directory and can be removed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the snapshot: {0}")]
    Snapshot(#[from] file::Error),
    #[error("{0} is not empty; nothing is overwritten")]
    NotEmpty(PathBuf),
    #[error("{0} is no member's directory, or one that has no log yet")]
    NoMember(PathBuf),
    #[error("{0} has a log; only an empty directory founds")]
    HasLog(PathBuf),
    /// What was written does not read back as it should.
    #[error("what was written does not read back: {0}")]
    Verify(&'static str),
    #[error("the founding record names cluster {0}; say so if it is to be replaced")]
    Replaces(ClusterId),
    #[error("the founding record has no row to be replaced")]
    NoRow,
    /// All was written; the record may or may not name the new cluster. To try again, use another directory.
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Makes a cluster of the survivor in `settings.dir`, with all of its log applied, in the directory `into`. The founding
/// record's row of the survivor's cluster (or of `replaces`) is replaced by compare-and-set, so that of two survivors one
/// recovers. Majorities that are alive are not asked: to recover from a minority beside them parts the cluster.
/// Incarnations and revisions go on above all that the date `wall` tells of: it must not be earlier than at the last recovery.
pub async fn recover(
    settings: &Settings,
    (parts, wall): (&Parts, &dyn WallClock),
    into: &Path,
    replaces: Option<ClusterId>,
) -> Result<Anew, OfflineError> {
    let no_member = || OfflineError::NoMember(settings.dir.clone());
    let found = Identity::find(&*parts.disk, &settings.dir)?;
    let (identity, _) = found.ok_or_else(no_member)?;
    let belongs = identity.belongs.ok_or_else(no_member)?;
    let replaces = Some(replaces.unwrap_or(belongs.cluster));
    refuse_early(parts, replaces).await?;
    let recovered = core::recover(settings, parts, identity.member, identity.begun)?;
    if recovered.is_empty() {
        return Err(no_member());
    }
    let mut replayed = offline::replay(recovered)?;
    leap(&mut replayed.state, wall);
    let anew = begin(settings, parts, replayed.state, into).await?;
    take_row(parts, anew.cluster, replaces).await?;
    Ok(Anew {
        uncertain_entries: replayed.uncertain,
        ..anew
    })
}

/// Makes a cluster of a snapshot file in `settings.dir`. `replaces`: the cluster whose row in the founding record is
/// replaced; none, if the record has no row. `wall` as with [`recover`].
pub async fn restore(
    settings: &Settings,
    (parts, wall): (&Parts, &dyn WallClock),
    file: &Path,
    replaces: Option<ClusterId>,
) -> Result<Anew, OfflineError> {
    let mut loaded = load(&*parts.disk, file, settings.limits)?;
    refuse_early(parts, replaces).await?;
    leap(&mut loaded.state, wall);
    let anew = begin(settings, parts, loaded.state, &settings.dir).await?;
    take_row(parts, anew.cluster, replaces).await?;
    Ok(anew)
}

/// Gives a founder's place to the empty directory `settings.dir`: the row of `old` is replaced by compare-and-set, and the
/// next start founds, unless a peer answers with a cluster. For a cluster whose disks are all lost. Harmless when repeated.
/// Its incarnations begin with 1: whoever outside remembers those of `old` tells them apart by their cluster.
pub async fn refound(
    settings: &Settings,
    parts: &Parts,
    old: ClusterId,
) -> Result<Founding, OfflineError> {
    let (disk, dir) = (&*parts.disk, &settings.dir);
    let mut identity = Identity::open(disk, dir, &*parts.random)?;
    if identity.begun {
        let recovered = core::recover(settings, parts, identity.member, true)?;
        if !recovered.is_empty() {
            return Err(OfflineError::HasLog(dir.clone()));
        }
        recovered.log.close();
    }
    let minted = identity
        .belongs
        .filter(|is| is.founder && is.cluster != old);
    let uuid = minted.map_or_else(|| mint(&*parts.random), |is| is.cluster);
    let belongs = Belongs {
        cluster: uuid,
        founder: true,
    };
    identity.belong(disk, dir, belongs)?;
    let founder = identity.member;
    let new = Founding { uuid, founder };
    match put_row(parts, new, Some(old)).await? {
        Put::Done => Ok(new),
        Put::Other(found) => Err(OfflineError::Replaces(found)),
        Put::Missing => Err(OfflineError::NoRow),
    }
}

fn leap(state: &mut State, wall: &dyn WallClock) {
    let seconds = u64::try_from(wall.unix_seconds()).unwrap_or(0);
    let floor = seconds
        .saturating_mul(A_SECOND)
        .min(Incarnation::CEILING / 2);
    state.leap(LEAP.max(floor.saturating_sub(state.applied())));
}

/// Writes the directory of a new cluster that begins with `state`, and reads it back. The log comes first and the identity
/// last: until then no member starts there.
async fn begin(
    settings: &Settings,
    parts: &Parts,
    mut state: State,
    into: &Path,
) -> Result<Anew, OfflineError> {
    let disk = &*parts.disk;
    for dir in [into.to_owned(), into.join("log"), into.join("snapshots")] {
        disk.create_dir(&dir)?;
        if !disk.list(&dir)?.is_empty() {
            return Err(OfflineError::NotEmpty(dir));
        }
    }
    let (cluster, member) = (mint(&*parts.random), MemberId(parts.random.u64()));
    forget_members(&mut state, member, &settings.info)?;
    offline::begin_log(settings, parts, into, member).await?;
    let published = publish(settings, parts, into, state.clone(), member).await?;
    let identity = Identity {
        member,
        begun: true,
        belongs: Some(Belongs {
            cluster,
            founder: true,
        }),
    };
    identity.write(disk, into)?;
    verify(settings, parts, into, &identity, &state, &published)?;
    Ok(Anew {
        cluster,
        member,
        keys: state.map().len(),
        uncertain_entries: 0,
    })
}

async fn publish(
    settings: &Settings,
    parts: &Parts,
    into: &Path,
    state: State,
    member: MemberId,
) -> Result<Published, OfflineError> {
    let dir = into.join("snapshots");
    let (snapshots, _) = Snapshots::open(parts.disk.clone(), &dir, settings.limits)?;
    let meta = offline::meta_of_one(member, state.applied())?;
    let (tell, told) = oneshot::channel();
    let built = Box::new(move |result| {
        // Nobody waits: this call was given up.
        let _ = tell.send(result);
    });
    let job = snapshots.build(&*parts.spawner, state, meta, built)?;
    let built = told.await;
    job.join();
    let ended = || file::Error::Content("the job that builds has ended");
    Ok(built.map_err(|_| ended())??)
}

fn verify(
    settings: &Settings,
    parts: &Parts,
    into: &Path,
    identity: &Identity,
    state: &State,
    published: &Published,
) -> Result<(), OfflineError> {
    let disk = &*parts.disk;
    let read = Identity::find(disk, into)?.map(|(identity, _)| identity);
    if read != Some(*identity) {
        return Err(OfflineError::Verify("the identity"));
    }
    let loaded = load(disk, &published.path, settings.limits)?;
    if loaded.state.hash() != state.hash() || loaded.state.applied() != state.applied() {
        return Err(OfflineError::Verify("the snapshot"));
    }
    let settings = Settings {
        dir: into.to_owned(),
        ..settings.clone()
    };
    // As a start does it: the log begins anew behind the snapshot.
    let recovered = core::recover(&settings, parts, identity.member, true)?;
    let last = recovered.log.log_state().last.map(|id| id.index);
    recovered.log.close();
    match last == Some(state.applied()) {
        true => Ok(()),
        false => Err(OfflineError::Verify("the log")),
    }
}

/// Every member gets a tombstone and every incarnation dies, and what the members' transports shared goes: the new
/// cluster makes its own. Done by entries, as any change of a state.
fn forget_members(state: &mut State, member: MemberId, info: &MemberInfo) -> Result<(), OpenError> {
    let known: Vec<_> = state.members().iter().map(|(id, _)| id).collect();
    for id in known {
        close(state, Close::Remove(id))?;
    }
    let asked = Registration {
        member,
        nonce: BootNonce(0),
        latest: None,
        info: info.clone(),
    };
    close(state, Close::Register(asked))?;
    let incarnation = Incarnation(state.applied());
    for sequence in 1.. {
        let keys = state.scan(RESERVED_PREFIX, None, REMOVED_AT_ONCE);
        if keys.is_empty() {
            break;
        }
        let deletes = keys.into_iter().map(|item| Write {
            key: item.key,
            expect: Expect::Any,
            action: Action::Delete,
        });
        let proposal = Proposal {
            id: ProposalId {
                incarnation,
                sequence,
            },
            lowest_unanswered: sequence,
            op: Op::Batch(deletes.collect()),
        };
        let body = EntryBody {
            proposals: vec![proposal],
            close: None,
        };
        state.apply(state.applied() + 1, &body)?;
    }
    close(state, Close::Dead(incarnation))
}

fn close(state: &mut State, close: Close) -> Result<(), OpenError> {
    let body = EntryBody {
        proposals: Vec::new(),
        close: Some(close),
    };
    state.apply(state.applied() + 1, &body)?;
    Ok(())
}

/// A row of another cluster refuses before anything is written, so that the same call with another `replaces` is no second
/// try in a directory that is full. What the record says later decides all the same; without an answer it goes on.
async fn refuse_early(parts: &Parts, replaces: Option<ClusterId>) -> Result<(), OfflineError> {
    match limited(parts.founding.read()).await {
        Ok(Some(row)) if Some(row.uuid) != replaces => Err(OfflineError::Replaces(row.uuid)),
        _ => Ok(()),
    }
}

/// The row of a cluster that has begun; where there is none, it is created.
async fn take_row(
    parts: &Parts,
    uuid: ClusterId,
    old: Option<ClusterId>,
) -> Result<(), OfflineError> {
    let founder = NOBODY;
    let new = Founding { uuid, founder };
    for _ in 0..RECORD_CALLS {
        match put_row(parts, new, old).await? {
            Put::Done => return Ok(()),
            Put::Other(found) => return Err(OfflineError::Replaces(found)),
            Put::Missing => {}
        }
        match limited(parts.founding.create(new)).await {
            Ok(Created::Yes) => return Ok(()),
            Ok(Created::Exists(row)) if row.uuid == uuid => return Ok(()),
            // Since the reading; or, after an answer that was lost, our own.
            Ok(Created::Exists(_)) | Err(RecordError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(parts.clock.wait(RECORD_PAUSE)).await;
    }
    Err(RecordError::Unknown("no answer".into()).into())
}

enum Put {
    Done,
    /// The row is of this cluster.
    Other(ClusterId),
    Missing,
}

/// Puts `new` in the place of the row of `old`. A reading may be old, so only what `replace` has refused counts.
async fn put_row(parts: &Parts, new: Founding, old: Option<ClusterId>) -> Result<Put, RecordError> {
    let record: &dyn FoundingRecord = &*parts.founding;
    let mut last = None;
    for _ in 0..RECORD_CALLS {
        let replaced = match old {
            Some(old) => limited(record.replace(old, new)).await,
            None => Ok(false),
        };
        let row = limited(record.read()).await;
        match (replaced, row) {
            (Ok(true), _) => return Ok(Put::Done),
            (_, Ok(Some(row))) if row == new => return Ok(Put::Done),
            (Ok(false), Ok(Some(row))) if Some(row.uuid) != old => return Ok(Put::Other(row.uuid)),
            (Ok(false), Ok(None)) => return Ok(Put::Missing),
            // A reading that is old, or no answer.
            (Ok(false), Ok(Some(_))) => {}
            (Err(error), _) | (_, Err(error)) => last = Some(error),
        }
        sleep(parts.clock.wait(RECORD_PAUSE)).await;
    }
    Err(last.unwrap_or_else(|| RecordError::Unknown("no answer".into())))
}

async fn limited<T>(call: impl Future<Output = Result<T, RecordError>>) -> Result<T, RecordError> {
    let limited = timeout(RECORD_LIMIT, call).await;
    limited.unwrap_or_else(|_| Err(RecordError::Unknown("no answer in time".into())))
}

#[cfg(test)]
mod tests;
