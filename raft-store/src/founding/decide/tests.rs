//! All views of a small world: three clusters, this member and another.

use super::*;

const ME: MemberId = MemberId(1);
const OTHER: MemberId = MemberId(2);
const CLUSTERS: [ClusterId; 3] = [ClusterId([1; 16]), ClusterId([2; 16]), ClusterId([3; 16])];

fn rows() -> Vec<Row> {
    let mut rows = vec![Row::Unknown, Row::Missing];
    for uuid in CLUSTERS {
        for founder in [ME, OTHER] {
            rows.push(Row::Read(Founding { uuid, founder }));
            rows.push(Row::Sure(Founding { uuid, founder }));
        }
    }
    rows
}

fn directories() -> Vec<Option<Belongs>> {
    let mut all = vec![None];
    for cluster in CLUSTERS {
        for founder in [false, true] {
            all.push(Some(Belongs { cluster, founder }));
        }
    }
    all
}

fn subsets() -> impl Iterator<Item = BTreeSet<ClusterId>> {
    (0..8).map(|bits| {
        let inside = CLUSTERS.iter().enumerate();
        inside
            .filter(|(at, _)| bits >> at & 1 == 1)
            .map(|(_, uuid)| *uuid)
            .collect()
    })
}

/// Every view there is.
fn views() -> Vec<View> {
    let mut views = Vec::new();
    for row in rows() {
        for belongs in directories() {
            for held in subsets() {
                for flags in 0..8 {
                    views.push(View {
                        member: ME,
                        belongs,
                        log_empty: flags & 1 == 1,
                        row,
                        held: held.clone(),
                        looked: flags & 2 == 2,
                        may_found: flags & 4 == 4,
                    });
                }
            }
        }
    }
    views
}

fn row_of(view: &View) -> Option<Founding> {
    match view.row {
        Row::Read(row) | Row::Sure(row) => Some(row),
        Row::Unknown | Row::Missing => None,
    }
}

fn holds(view: &View, decision: &Decision) -> bool {
    let row = row_of(view);
    match decision {
        Decision::Resume(cluster) => {
            !view.log_empty && view.belongs.map(|is| is.cluster) == Some(*cluster)
        }
        Decision::Found(uuid) => {
            let named = Row::Sure(Founding {
                uuid: *uuid,
                founder: ME,
            });
            view.log_empty && view.row == named && view.held.is_empty() && view.looked
        }
        Decision::Claim(uuid) => {
            let allowed = match row {
                Some(row) => row.founder == ME && *uuid == Some(row.uuid),
                None => {
                    let mut belongs = view.belongs.iter();
                    view.row == Row::Missing
                        && view.may_found
                        && belongs.all(|is| is.founder && *uuid == Some(is.cluster))
                }
            };
            view.log_empty && view.held.is_empty() && view.looked && allowed
        }
        Decision::Join(uuid) => {
            let named = row.is_none_or(|row| row.uuid == *uuid && row.founder != ME);
            let meant = view.belongs.map(|is| is.cluster) == Some(*uuid);
            let sure = view.row != Row::Unknown || meant;
            view.log_empty && view.held.contains(uuid) && named && sure
        }
        Decision::Wait(_) => view.log_empty,
        Decision::Refuse(Reason::NoIdentity) => !view.log_empty && view.belongs.is_none(),
        Decision::Refuse(Reason::SetBack(uuid)) => view.log_empty && view.held.contains(uuid),
        Decision::Refuse(_) => false,
    }
}

#[test]
fn no_view_leads_to_a_second_cluster() {
    let views = views();
    assert_eq!(views.len(), 14 * 7 * 8 * 8);
    for view in views {
        let decision = decide(&view);
        assert!(holds(&view, &decision), "{view:?}: {decision:?}");
    }
}

fn empty() -> View {
    View {
        member: ME,
        belongs: None,
        log_empty: true,
        row: Row::Missing,
        held: BTreeSet::new(),
        looked: true,
        may_found: true,
    }
}

#[test]
fn an_empty_directory_founds_through_a_claim() {
    let uuid = CLUSTERS[0];
    let mut view = empty();
    assert_eq!(decide(&view), Decision::Claim(None));
    view.belongs = Some(Belongs {
        cluster: uuid,
        founder: true,
    });
    assert_eq!(decide(&view), Decision::Claim(Some(uuid)));
    let row = Founding { uuid, founder: ME };
    view.row = Row::Read(row);
    assert_eq!(decide(&view), Decision::Claim(Some(uuid)), "it may be old");
    view.row = Row::Sure(row);
    assert_eq!(decide(&view), Decision::Found(uuid));
    view.log_empty = false;
    assert_eq!(decide(&view), Decision::Resume(uuid));
    view.belongs = None;
    assert_eq!(decide(&view), Decision::Refuse(Reason::NoIdentity));
}

#[test]
fn whoever_lost_joins_when_the_founder_answers() {
    let (uuid, mine) = (CLUSTERS[0], CLUSTERS[1]);
    let row = Founding {
        uuid,
        founder: OTHER,
    };
    let mut view = empty();
    view.belongs = Some(Belongs {
        cluster: mine,
        founder: true,
    });
    view.row = Row::Sure(row);
    assert_eq!(decide(&view), Decision::Wait(Reason::Members(row)));
    view.held.insert(uuid);
    assert_eq!(decide(&view), Decision::Join(uuid));
}

#[test]
fn a_record_that_has_forgotten_founds_nothing_where_a_peer_answers() {
    let mut view = empty();
    view.held.insert(CLUSTERS[0]);
    assert_eq!(decide(&view), Decision::Join(CLUSTERS[0]));
    view.held.clear();
    view.belongs = Some(Belongs {
        cluster: CLUSTERS[0],
        founder: false,
    });
    let waits = Decision::Wait(Reason::MembersOf(CLUSTERS[0]));
    assert_eq!(decide(&view), waits, "nor where none does");
}

#[test]
fn a_log_never_changes_its_cluster() {
    let [uuid, other, _] = CLUSTERS;
    let mut view = empty();
    view.log_empty = false;
    view.belongs = Some(Belongs {
        cluster: uuid,
        founder: true,
    });
    for row in rows() {
        view.row = row;
        assert_eq!(decide(&view), Decision::Resume(uuid));
    }
    let row = |uuid, founder| Some(Founding { uuid, founder });
    let over = Founding {
        uuid,
        founder: NOBODY,
    };
    for leading in [false, true] {
        let assessed = assess(uuid, row(other, ME), leading);
        assert_eq!(assessed, Assessment::Other(other));
        assert_eq!(assess(uuid, Some(over), leading), Assessment::Fine);
    }
    assert_eq!(assess(uuid, None, true), Assessment::Create(over));
    assert_eq!(assess(uuid, None, false), Assessment::Fine);
    assert_eq!(assess(uuid, row(uuid, ME), true), Assessment::Retire(over));
    assert_eq!(assess(uuid, row(uuid, ME), false), Assessment::Fine);
}

#[test]
fn a_directory_set_back_founds_nothing_again() {
    let mut view = empty();
    view.belongs = Some(Belongs {
        cluster: CLUSTERS[0],
        founder: true,
    });
    view.held.insert(CLUSTERS[0]);
    for row in rows() {
        view.row = row;
        if row_of(&view).is_none_or(|row| row.uuid == CLUSTERS[0] && row.founder == ME) {
            let decision = decide(&view);
            let waits = row == Row::Unknown && decision == Decision::Wait(Reason::Record);
            let refused = decision == Decision::Refuse(Reason::SetBack(CLUSTERS[0]));
            assert!(waits || refused, "{row:?}: {decision:?}");
        }
    }
}
