//! The decision as a function of what is known: found, join, go on, wait or refuse.

use std::collections::BTreeSet;
use std::fmt;

use super::{Founding, NOBODY};
use crate::identity::Belongs;
use crate::ids::{ClusterId, MemberId};

/// What the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// It gave no answer, or one that leaves open what happened.
    Unknown,
    /// A reading, which may be old.
    Missing,
    Read(Founding),
    /// The answer of `create`: so it is.
    Sure(Founding),
}

/// What is known when it has to be decided.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) member: MemberId,
    /// What the directory was meant for.
    pub(super) belongs: Option<Belongs>,
    /// It has no vote, no entry and no snapshot: this member has promised nothing to anybody.
    pub(super) log_empty: bool,
    pub(super) row: Row,
    /// Clusters of whose log a peer holds some.
    pub(super) held: BTreeSet<ClusterId>,
    /// Every address that is known was asked who is there, and nobody there has kept it to itself.
    pub(super) looked: bool,
    pub(super) may_found: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The log says where this member belongs, whatever the record says: see [`assess`].
    Resume(ClusterId),
    /// Note the UUID (a new one if `None`) in the identity, then ask the record to create the row.
    Claim(Option<ClusterId>),
    /// Initialise.
    Found(ClusterId),
    /// Become a member of what peers hold.
    Join(ClusterId),
    /// Look again later.
    Wait(Reason),
    /// A person must help.
    Refuse(Reason),
}

/// What is waited for, or why it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Record,
    Looking,
    /// The record has a row; none of its members answers.
    Members(Founding),
    /// This directory was to join; the record has no row, and no member answers.
    MembersOf(ClusterId),
    /// Nobody has a cluster, and this member may not found one.
    SomeCluster,
    /// Peers hold another cluster than the record's.
    Others {
        row: ClusterId,
        held: BTreeSet<ClusterId>,
    },
    /// Peers hold several, and the record has no row.
    Several(BTreeSet<ClusterId>),
    /// Peers go on with what this member has founded, and its log is empty.
    SetBack(ClusterId),
    /// There is a log, and the identity says nothing of a cluster.
    NoIdentity,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => write!(f, "the founding record to answer"),
            Self::Looking => write!(
                f,
                "addresses to be found and asked who is there; whoever is must let this member in"
            ),
            Self::Members(row) => write!(
                f,
                "a member of cluster {0}; if all its disks are lost, refound in its place, naming {0}",
                row.uuid
            ),
            Self::MembersOf(cluster) => {
                write!(
                    f,
                    "a member of cluster {cluster}, which this one was joining"
                )
            }
            Self::SomeCluster => write!(f, "a cluster: this member may not found one"),
            Self::Others { row, held } => write!(
                f,
                "a member of cluster {row}, which the founding record names; those that answer are of {}",
                list(held)
            ),
            Self::Several(held) => write!(
                f,
                "the founding record to name one of the clusters {}",
                list(held)
            ),
            Self::SetBack(cluster) => write!(
                f,
                "this member has founded cluster {cluster}, which others go on with, and its own log is empty: the \
                 directory was set back; start with an empty one"
            ),
            Self::NoIdentity => write!(
                f,
                "there is a log, and no identity that says of which cluster"
            ),
        }
    }
}

fn list(clusters: &BTreeSet<ClusterId>) -> String {
    let names: Vec<_> = clusters.iter().map(ClusterId::to_string).collect();
    names.join(", ")
}

/// See [`Decision`]. A log decides by itself. Without one: a row that names another is joined as soon as a peer holds
/// that cluster; without a row the one cluster that peers hold is joined; and only where no peer holds any, and every
/// address was asked, is the row claimed. Founding follows from a claim that was answered.
pub(super) fn decide(view: &View) -> Decision {
    if !view.log_empty {
        let belongs = view.belongs.ok_or(Reason::NoIdentity);
        return belongs.map_or_else(Decision::Refuse, |is| Decision::Resume(is.cluster));
    }
    match view.row {
        Row::Read(row) | Row::Sure(row) if row.founder == view.member => own_row(view, row),
        Row::Read(row) | Row::Sure(row) => others_row(view, row),
        Row::Missing => no_row(view),
        Row::Unknown => match view.belongs {
            // The record is needed to found; this was decided before.
            Some(Belongs {
                cluster,
                founder: false,
            }) if view.held.contains(&cluster) => Decision::Join(cluster),
            _ => Decision::Wait(Reason::Record),
        },
    }
}

fn own_row(view: &View, row: Founding) -> Decision {
    if view.held.contains(&row.uuid) {
        return Decision::Refuse(Reason::SetBack(row.uuid));
    }
    if !view.held.is_empty() {
        let (row, held) = (row.uuid, view.held.clone());
        return Decision::Wait(Reason::Others { row, held });
    }
    match view.row {
        _ if !view.looked => Decision::Wait(Reason::Looking),
        Row::Sure(_) => Decision::Found(row.uuid),
        _ => Decision::Claim(Some(row.uuid)),
    }
}

fn others_row(view: &View, row: Founding) -> Decision {
    if view.held.contains(&row.uuid) {
        return Decision::Join(row.uuid);
    }
    if view.held.is_empty() {
        return Decision::Wait(Reason::Members(row));
    }
    let (row, held) = (row.uuid, view.held.clone());
    Decision::Wait(Reason::Others { row, held })
}

fn no_row(view: &View) -> Decision {
    if let Some(Belongs { cluster, founder }) = view.belongs {
        match (view.held.contains(&cluster), founder) {
            (true, true) => return Decision::Refuse(Reason::SetBack(cluster)),
            (true, false) => return Decision::Join(cluster),
            // There is a cluster somewhere: a record that forgets is no reason to found another.
            (false, false) => return Decision::Wait(Reason::MembersOf(cluster)),
            (false, true) => {}
        }
    }
    let mut held = view.held.iter();
    match (held.next(), held.next()) {
        (Some(one), None) => Decision::Join(*one),
        (Some(_), Some(_)) => Decision::Wait(Reason::Several(view.held.clone())),
        (None, _) if !view.may_found => Decision::Wait(Reason::SomeCluster),
        (None, _) if !view.looked => Decision::Wait(Reason::Looking),
        (None, _) => {
            let minted = view.belongs.filter(|is| is.founder).map(|is| is.cluster);
            Decision::Claim(minted)
        }
    }
}

/// What a member that has a log does about the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assessment {
    Fine,
    /// The leader puts this row, if there is none.
    Create(Founding),
    /// The leader puts this row in the place of that of its cluster: the founding is over.
    Retire(Founding),
    /// Another cluster has taken the row.
    Other(ClusterId),
}

/// The row of a cluster that runs.
pub(super) fn over(uuid: ClusterId) -> Founding {
    let founder = NOBODY;
    Founding { uuid, founder }
}

/// See [`Assessment`]. What a leader puts names nobody, so that no directory set back to before its first entry founds
/// under that UUID again.
pub(super) fn assess(cluster: ClusterId, row: Option<Founding>, leading: bool) -> Assessment {
    match row {
        Some(row) if row.uuid != cluster => Assessment::Other(row.uuid),
        Some(row) if row.founder != NOBODY && leading => Assessment::Retire(over(cluster)),
        None if leading => Assessment::Create(over(cluster)),
        Some(_) | None => Assessment::Fine,
    }
}

#[cfg(test)]
mod tests;
