//! Replies as bytes.

use super::{counted, maybe_id, option, put_id, put_option, put_vote, unknown, vote};
use crate::codec::{Error, Reader, Writer};
use crate::ids::MemberId;
use crate::limits::FRAME_BYTES;
use crate::link::messages::{Appended, Forwarded, NotServed, Removing, Renewed, Reply};

/// A reply's body.
pub(in crate::link) fn encode_reply(reply: &Reply, head: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut to = Writer::with_buffer(head, FRAME_BYTES);
    put_reply(&mut to, reply);
    to.finish("reply")
}

fn put_reply(to: &mut Writer, reply: &Reply) {
    match reply {
        Reply::Append(appended) => {
            to.u8(1);
            put_appended(to, *appended);
        }
        Reply::Vote {
            vote,
            granted,
            last,
        } => {
            to.u8(2);
            put_vote(to, *vote);
            to.bool(*granted);
            put_option(to, *last, put_id);
        }
        Reply::PreVote(granted) => {
            to.u8(3);
            to.bool(*granted);
        }
        Reply::Pong { vote, full } => {
            to.u8(4);
            put_option(to, *vote, put_vote);
            to.bool(*full);
        }
        Reply::Taken(taken) => {
            to.u8(5);
            to.bool(*taken);
        }
        Reply::Forwarded(forwarded) => {
            to.u8(6);
            put_forwarded(to, *forwarded);
        }
        Reply::ReadIndex(Ok(index)) => {
            to.u8(7);
            to.varint(*index);
        }
        Reply::ReadIndex(Err(why)) => {
            to.u8(8);
            put_not_served(to, *why);
        }
        Reply::Renewed(renewed) => {
            to.u8(9);
            put_renewed(to, *renewed);
        }
        Reply::SnapshotHave { offset } => {
            to.u8(10);
            to.varint(*offset);
        }
        Reply::SnapshotInstalled { vote } => {
            to.u8(11);
            put_vote(to, *vote);
        }
        Reply::SnapshotBad => to.u8(12),
        Reply::StateHash { agrees } => {
            to.u8(13);
            put_option(to, *agrees, Writer::bool);
        }
        Reply::Unfit => to.u8(14),
        Reply::Removing(Removing::Removed) => to.u8(15),
        Reply::Removing(Removing::Wanted) => to.u8(16),
        Reply::Removing(Removing::Unknown) => to.u8(17),
        Reply::Removing(Removing::Not(why)) => {
            to.u8(18);
            put_not_served(to, *why);
        }
    }
}

fn put_renewed(to: &mut Writer, renewed: Renewed) {
    match renewed {
        Renewed::Granted => to.u8(1),
        Renewed::Lost => to.u8(2),
        Renewed::Not(why) => {
            to.u8(3);
            put_not_served(to, why);
        }
    }
}

fn put_appended(to: &mut Writer, appended: Appended) {
    match appended {
        Appended::All => to.u8(1),
        Appended::Some(up_to) => {
            to.u8(2);
            put_option(to, up_to, put_id);
        }
        Appended::Conflict => to.u8(3),
        Appended::Higher(vote) => {
            to.u8(4);
            put_vote(to, vote);
        }
        Appended::Superseded => to.u8(5),
    }
}

fn put_forwarded(to: &mut Writer, forwarded: Forwarded) {
    match forwarded {
        Forwarded::Queued => to.u8(1),
        Forwarded::Not(why) => {
            to.u8(2);
            put_not_served(to, why);
        }
        Forwarded::Removed => to.u8(3),
        Forwarded::Full => to.u8(4),
        Forwarded::Format(format) => {
            to.u8(5);
            to.u16(format);
        }
    }
}

fn put_not_served(to: &mut Writer, why: NotServed) {
    match why {
        NotServed::NotLeader(leader) => {
            to.u8(1);
            put_option(to, leader, |to, leader| to.u64(leader.0));
        }
        NotServed::NoQuorum => to.u8(2),
        NotServed::Busy => to.u8(3),
    }
}

/// Of a reply's body.
pub(in crate::link) fn decode_reply(body: &[u8]) -> Result<Reply, Error> {
    let from = &mut Reader::new(body);
    let reply = match from.u8("reply")? {
        1 => Reply::Append(appended(from)?),
        2 => Reply::Vote {
            vote: vote(from)?,
            granted: from.bool("granted")?,
            last: maybe_id(from)?,
        },
        3 => Reply::PreVote(from.bool("agreed")?),
        4 => Reply::Pong {
            vote: option(from, "vote", vote)?,
            full: from.bool("full")?,
        },
        5 => Reply::Taken(from.bool("taken")?),
        6 => Reply::Forwarded(forwarded(from)?),
        7 => Reply::ReadIndex(Ok(counted(from, "index")?)),
        8 => Reply::ReadIndex(Err(not_served(from)?)),
        9 => Reply::Renewed(match from.u8("renewal")? {
            1 => Renewed::Granted,
            2 => Renewed::Lost,
            3 => Renewed::Not(not_served(from)?),
            other => return Err(unknown("renewal", other)),
        }),
        10 => Reply::SnapshotHave {
            offset: counted(from, "offset")?,
        },
        11 => Reply::SnapshotInstalled { vote: vote(from)? },
        12 => Reply::SnapshotBad,
        13 => Reply::StateHash {
            agrees: option(from, "known", |from| from.bool("agrees"))?,
        },
        14 => Reply::Unfit,
        15 => Reply::Removing(Removing::Removed),
        16 => Reply::Removing(Removing::Wanted),
        17 => Reply::Removing(Removing::Unknown),
        18 => Reply::Removing(Removing::Not(not_served(from)?)),
        other => return Err(unknown("reply", other)),
    };
    from.clone().finish("reply")?;
    Ok(reply)
}

fn appended(from: &mut Reader<'_>) -> Result<Appended, Error> {
    Ok(match from.u8("what was appended")? {
        1 => Appended::All,
        2 => Appended::Some(maybe_id(from)?),
        3 => Appended::Conflict,
        4 => Appended::Higher(vote(from)?),
        5 => Appended::Superseded,
        other => return Err(unknown("what was appended", other)),
    })
}

fn forwarded(from: &mut Reader<'_>) -> Result<Forwarded, Error> {
    Ok(match from.u8("forward")? {
        1 => Forwarded::Queued,
        2 => Forwarded::Not(not_served(from)?),
        3 => Forwarded::Removed,
        4 => Forwarded::Full,
        5 => Forwarded::Format(from.u16("cluster format")?),
        other => return Err(unknown("forward", other)),
    })
}

fn not_served(from: &mut Reader<'_>) -> Result<NotServed, Error> {
    Ok(match from.u8("why not served")? {
        1 => {
            let leader = option(from, "leader", |from| from.u64("leader"))?;
            NotServed::NotLeader(leader.map(MemberId))
        }
        2 => NotServed::NoQuorum,
        3 => NotServed::Busy,
        other => return Err(unknown("why not served", other)),
    })
}
