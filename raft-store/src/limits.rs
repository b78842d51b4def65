//! Limits, with their units. Those that apply looks at ([`Limits`]) must be the same on every member: they belong to
//! the cluster format, so they are constants of the build and no setting; tests alone make smaller ones.

use std::time::Duration;

/// The cluster format a new cluster begins with.
pub const CLUSTER_FORMAT_FIRST: u16 = 1;
/// The highest that this build knows.
pub const CLUSTER_FORMAT_KNOWN: u16 = 1;
/// Longest key a record has room for: ten bits of its header. No [`Limits::key_bytes`] may be above it.
pub const KEY_BYTES_CEILING: usize = 1023;
/// Most proposals in one entry.
pub const ENTRY_PROPOSALS: usize = 512;
/// Most bytes of the proposals of one entry, as encoded.
pub const ENTRY_BYTES: usize = 256 * 1024;
/// Proposals of one member that wait for their result; more are answered `Busy`.
pub const PROPOSALS_IN_FLIGHT: usize = 4096;
/// Commands of the store itself that wait for the leader; more are answered `Busy` and asked for again.
pub const COMMANDS_WAITING: usize = 256;
/// Reads of one member, its own and those of peers, that wait for a round; more are answered `Busy`.
pub const READS_IN_FLIGHT: usize = 8192;
/// Watches of one member.
pub const WATCHES: usize = 1024;
/// Events waiting for one watcher, in bytes of keys and values (and 64 for each); over it, it gets `Resync`.
pub const WATCH_BACKLOG_BYTES: usize = 1024 * 1024;
/// Recent events kept for watches that begin at an older revision, in the same bytes.
pub const RECENT_EVENTS_BYTES: usize = 16 * 1024 * 1024;
/// Changes told one by one after a snapshot install; above, `Resync`.
pub const DIFFERENCE_CHANGES: usize = 10_000;
/// One block of a snapshot, and what the layer above may put beside the state.
pub const SNAPSHOT_BLOCK_BYTES: usize = 256 * 1024;
/// One message of a snapshot that is sent to a peer.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// A snapshot is written, read back and sent to a peer no faster.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// Of a snapshot, written between two syncs: the log's own sync waits behind no more than this.
pub const SNAPSHOT_SYNC_BYTES: u64 = 1024 * 1024;
/// Addresses a member may have.
pub const MEMBER_ADDRESSES: usize = 8;
/// One address of a member.
pub const ADDRESS_BYTES: usize = 255;
/// Addresses taken from one way of discovery.
pub const DISCOVERED_ADDRESSES: usize = 64;
/// Most bytes of what it reads them from.
pub const DISCOVERY_BYTES: usize = 64 * 1024;
/// The zone of a member.
pub const ZONE_BYTES: usize = 64;
/// How long the other end of a connection may take to prove who it is.
pub const PROVE_MS: u64 = 5_000;
/// Bytes that are read from it until then.
pub const PROVE_BYTES: usize = 16 << 10;
/// Connections that have proven nothing yet, in all.
pub const UNFINISHED: usize = 256;
/// From one address; from one network of 64 bits with IPv6.
pub const UNFINISHED_AN_ADDRESS: usize = 16;
/// Handshakes of one address, of one network of 64 bits with IPv6; those over it wait for their turn.
pub const HANDSHAKES_A_SECOND: u64 = 64;
/// Handshakes of all addresses where no member is known to be: about a tenth of what one processor can do.
pub const STRANGERS_HANDSHAKES_A_SECOND: u64 = 256;
/// Requests for certificates that wait for the store, at one time.
pub const JOINERS: usize = 16;
/// Ids that have a certificate and never became members; over it nobody new gets one…
pub const UNCLAIMED_IDS: usize = 1_024;
/// …until the leader, which looks once an hour, has forgotten all but so many, the newest.
pub const UNCLAIMED_IDS_KEPT: usize = 512;
/// How long opening a connection to another member may take, with all that a join needs.
pub const DIAL_MS: u64 = 10_000;
/// What a record costs over its key and value, in bytes: charged to `store_bytes`.
pub const RECORD_OVERHEAD_BYTES: usize = 72;

/// A member's lease, counted by the leader from the last renewal it received.
pub const LEASE: Duration = Duration::from_secs(6);
/// What a holder takes off its lease and the leader adds to it: each has twice what two clocks may drift apart in that
/// time (2 × 1 %), and the rest is for a task that runs late.
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// One frame between members, its head of six bytes included.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// All that is read of a connection before its hello is valid.
pub const HELLO_BYTES: usize = 4 * 1024;
/// Connections whose hello has not come yet, in all.
pub const STRANGERS: usize = 256;
/// The same of one member: who opens one has proven who it is.
pub const STRANGERS_A_MEMBER: usize = 16;
/// Requests of one connection that wait for a reply; more wait here.
pub const CALLS_IN_FLIGHT: usize = 128;
/// Requests of one connection that are being served; at so many nothing more is read from it.
pub const CALLS_SERVED: usize = 256;
/// …and as soon as they have so many bytes.
pub const CALLS_SERVED_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that wait to be written to one connection; above, whoever wants to send waits.
pub const OUTBOX_BYTES: usize = 1024 * 1024;
/// So many wait only for a peer that asks and does not read what it is answered: its connection is ended.
pub const OUTBOX_CEILING_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are waiting there when frames of channels have to wait: what is called goes before them.
pub const OUTBOX_CHANNELS_BYTES: usize = 256 * 1024;
/// Bytes of one channel that its reader has not read yet, heads of frames included.
pub const CHANNEL_BYTES: usize = 4 * 1024 * 1024;
/// Channels with one peer.
pub const CHANNELS: usize = 64;

/// What apply looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// One key; keys are not empty.
    pub key_bytes: usize,
    /// One value.
    pub value_bytes: usize,
    /// Writes of one batch.
    pub batch_writes: usize,
    /// Keys and values of one batch together.
    pub batch_bytes: usize,
    /// All keys and values, and [`RECORD_OVERHEAD_BYTES`] for each record.
    pub store_bytes: u64,
    /// Results kept for one incarnation.
    pub window_results: usize,
    /// Writes that these are of, 16 bytes each; not fewer than `batch_writes`.
    pub window_writes: usize,
    /// Members, those registered and not removed.
    pub members: usize,
    /// Keys removed by one clean-up entry.
    pub clean_up_keys: usize,
    /// The highest cluster format that this build reads. It alone may differ between members: one that meets a higher
    /// one stops.
    pub format_known: u16,
}

impl Limits {
    /// The limits of cluster format 1.
    pub const fn format_1() -> Self {
        Self {
            key_bytes: 512,
            value_bytes: 64 * 1024,
            batch_writes: 512,
            batch_bytes: ENTRY_BYTES,
            store_bytes: 1 << 30,
            window_results: 4096,
            window_writes: 65_536,
            members: 64,
            clean_up_keys: 1000,
            format_known: CLUSTER_FORMAT_KNOWN,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::format_1()
    }
}

// A record's header holds the length of any key that is let in.
const _: () = assert!(Limits::format_1().key_bytes <= KEY_BYTES_CEILING);
// A window has room for any one result.
const _: () = assert!(Limits::format_1().batch_writes <= Limits::format_1().window_writes);
