//! XEP-0313: the archive, and the delivery debts of DESIGN §1; XEP-0431 full text.
//!
//! A message's bytes are stored once; each owner has a row at a dense, growing position, which is its commit order and
//! the row's key. `(owner, position)` is never given twice, whatever is deleted. The public stanza-id is made from it by
//! the server.
//!
//! A *debt* is a row with [`RowFlags::debt`] that is neither below the account's [`Watermark`] nor in its ranges. Rows that
//! are not archived exist only for their debt and are deleted by [`Archive::archive_forget_paid`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::{AccountId, Error, Fence, Timestamp};

/// A place in an owner's archive. Starts at 1; 0 means "no row" ([`Archive::archive_commit`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(pub i64);

/// The `type` of an archived message (RFC 6121 §5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    Normal = 0,
    Chat = 1,
    Groupchat = 2,
    Headline = 3,
    Error = 4,
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RowFlags {
    /// Visible to archive queries.
    pub archived: bool,
    /// Owed to the owner's resources until acknowledged.
    pub debt: bool,
    /// The owner sent it.
    pub outgoing: bool,
}

impl RowFlags {
    pub(crate) const ARCHIVED: i16 = 1;
    pub(crate) const DEBT: i16 = 2;
    pub(crate) const OUTGOING: i16 = 4;

    pub(crate) fn bits(self) -> i16 {
        i16::from(self.archived) * Self::ARCHIVED
            + i16::from(self.debt) * Self::DEBT
            + i16::from(self.outgoing) * Self::OUTGOING
    }

    pub(crate) fn from_bits(bits: i16) -> RowFlags {
        RowFlags {
            archived: bits & Self::ARCHIVED != 0,
            debt: bits & Self::DEBT != 0,
            outgoing: bits & Self::OUTGOING != 0,
        }
    }
}

/// A message whose bytes are stored once for all owners.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The self-contained stanza (DESIGN §7).
    pub bytes: Bytes,
    /// Its text, by which full-text search finds it in the archives of owners without bytes of their own; `None`: not
    /// searchable.
    pub text: Option<String>,
}

/// One owner's row.
#[derive(Debug, Clone)]
pub struct OwnerRow {
    pub owner: AccountId,
    /// When it was received. Stored as the owner's previous row's time where that is later.
    pub at: Timestamp,
    /// Index into [`Commit::messages`].
    pub message: usize,
    /// Stored for this owner instead of the message's bytes (they differ for it).
    pub own_bytes: Option<Bytes>,
    /// Bare JID of the other side.
    pub peer: String,
    /// Resource of the other side.
    pub peer_resource: Option<String>,
    pub flags: RowFlags,
    pub kind: MessageKind,
}

/// An inclusive range of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosRange {
    pub first: Position,
    pub last: Position,
}

/// What the account's resources have acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watermark {
    /// No row up to here is a debt.
    pub acked_up_to: Position,
    /// Acknowledged ranges above, ascending and apart; at most [`Watermark::RANGES_MAX`] are kept, later ones are forgotten
    /// (what is forgotten may be delivered again, nothing is lost).
    pub acked_above: Vec<PosRange>,
}

impl Watermark {
    /// Ranges kept per account.
    pub const RANGES_MAX: usize = 256;

    /// True where a row at `pos` is not owed any more.
    pub fn covers(&self, pos: Position) -> bool {
        pos <= self.acked_up_to
            || self
                .acked_above
                .iter()
                .any(|r| r.first <= pos && pos <= r.last)
    }
}

/// How a message that an account without an archive sent is recognised when sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResendKey {
    pub account: AccountId,
    /// The server's own digest, at most 64 bytes.
    pub key: Vec<u8>,
    pub at: Timestamp,
}

/// One transaction: all or nothing.
#[derive(Debug, Clone)]
pub struct Commit {
    pub fence: Fence,
    pub messages: Vec<NewMessage>,
    /// Positions are given in this order.
    pub rows: Vec<OwnerRow>,
    /// New watermarks; an account's later entry wins. They never go back: a smaller `acked_up_to` is ignored.
    pub watermarks: Vec<(AccountId, Watermark)>,
    pub resend_keys: Vec<ResendKey>,
}

impl Commit {
    /// An empty commit under `fence`.
    pub fn new(fence: Fence) -> Commit {
        Commit {
            fence,
            messages: Vec::new(),
            rows: Vec::new(),
            watermarks: Vec::new(),
            resend_keys: Vec::new(),
        }
    }

    /// True where there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.watermarks.is_empty() && self.resend_keys.is_empty()
    }
}

/// A commit whose outcome is not known yet. Hand it to [`Archive::archive_resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub(crate) ticket: u64,
}

/// Why a commit did not simply succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Surely nothing was stored.
    #[error(transparent)]
    Failed(#[from] Error),
    /// All or nothing was stored, not known which. Tell no sender anything before [`Archive::archive_resolve`] says.
    #[error("outcome of a commit is unknown")]
    Unknown(Unknown),
}

/// Which rows of an archive are meant (XEP-0313 §4.1). All given conditions hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveFilter {
    /// Bare JID of the other side and, where the query named a full JID, its resource.
    pub with: Option<(String, Option<String>)>,
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
    /// `after-id`: above this position.
    pub after: Option<Position>,
    /// `before-id`: below this position.
    pub before: Option<Position>,
    /// `ids`: these positions only.
    pub ids: Option<Vec<Position>>,
    /// XEP-0431: all these words.
    pub text: Option<String>,
}

/// Which way a page is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The first rows after the anchor.
    Forward,
    /// The last rows before the anchor.
    Backward,
}

/// A page (XEP-0059).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    pub direction: Direction,
    /// RSM's `after` or `before` by direction; exclusive.
    pub anchor: Option<Position>,
    pub limit: u32,
    /// Bytes of all rows together, beyond the first.
    pub bytes_max: u64,
    /// Count matching rows up to this many; 0: do not count.
    pub count_max: u32,
}

/// A row as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRow {
    pub pos: Position,
    pub at: Timestamp,
    pub flags: RowFlags,
    pub kind: MessageKind,
    /// Bare JID of the other side.
    pub peer: String,
    pub peer_resource: Option<String>,
    pub bytes: Bytes,
}

/// One page, in ascending order whatever the direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchivePage {
    pub rows: Vec<ArchivedRow>,
    /// No more rows in the page's direction.
    pub complete: bool,
    /// Rows that match the filter, anchor aside; `None`: more than `count_max`, or not asked for.
    pub count: Option<u64>,
}

/// The ends of an archive (XEP-0313 §6.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveMetadata {
    pub first: Option<(Position, Timestamp)>,
    pub last: Option<(Position, Timestamp)>,
}

/// Rows that one page of debts looks at: most rows above a watermark may be no debts, those the account sent.
pub const DEBT_LOOK_ROWS_MAX: u32 = 4096;

/// Debts in order, and how far they were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DebtPage {
    pub rows: Vec<ArchivedRow>,
    /// Every debt from where the page begins up to here is in `rows`: where the next page begins.
    pub up_to: Position,
    /// The owner had no row above `up_to`. What is committed later lies above it.
    pub complete: bool,
}

/// Size of what is owed of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DebtTotal {
    pub rows: u64,
    pub bytes: u64,
}

/// Size of what is owed: rows that archive queries see, and rows that exist only for their debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DebtTotals {
    pub archived: DebtTotal,
    pub unarchived: DebtTotal,
}

impl DebtTotals {
    /// One kind.
    pub fn of(&self, archived: bool) -> DebtTotal {
        if archived {
            self.archived
        } else {
            self.unarchived
        }
    }

    /// One kind, to count on.
    pub fn of_mut(&mut self, archived: bool) -> &mut DebtTotal {
        if archived {
            &mut self.archived
        } else {
            &mut self.unarchived
        }
    }
}

/// A row the account sent, for recognising one sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRow {
    pub pos: Position,
    pub at: Timestamp,
    pub peer: String,
    pub peer_resource: Option<String>,
    pub bytes: Bytes,
}

/// What an archive may keep; `None`: no such bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Rows before this time go.
    pub not_before: Option<Timestamp>,
    /// The newest so many rows stay.
    pub rows_max: Option<u64>,
}

/// What a step of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    pub rows_deleted: u64,
    /// Call again.
    pub more: bool,
}

/// What a step of [`Archive::archive_forget_paid`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    pub rows_deleted: u64,
    /// Where the next step begins; `None`: every account was looked at.
    pub next: Option<AccountId>,
}

/// The archive.
#[async_trait]
pub trait Archive {
    /// Stores a whole batch durably in one transaction; answers each row's position, in the order of [`Commit::rows`].
    /// A row whose owner does not exist (any more) is left out and gets position 0; the rest of the batch is stored.
    ///
    /// Calls are carried out one after another; callers gather while one is under way. After [`CommitError::Unknown`]
    /// every later commit first learns the fate of the unknown one (it cannot be overtaken, nor its positions given again)
    /// and gets `Failed(Unavailable)` while that cannot be learnt.
    async fn archive_commit(&self, commit: Commit) -> Result<Vec<Position>, CommitError>;

    /// What became of a commit of unknown outcome: its rows' positions, or `None` where surely nothing was and will be
    /// stored (write it again or refuse it). `Unavailable`: ask again later. The answer is kept until asked for once.
    async fn archive_resolve(&self, unknown: &Unknown) -> Result<Option<Vec<Position>>, Error>;

    /// Debts after `after` in order, at most `limit` and, beyond the first, at most `bytes_max` together, among the next
    /// [`DEBT_LOOK_ROWS_MAX`] rows. Read from what is durable now.
    async fn archive_debts(
        &self,
        owner: AccountId,
        after: Position,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DebtPage, Error>;

    /// How much is owed, counting at most `rows_max` of both kinds among that many and [`DEBT_LOOK_ROWS_MAX`] rows.
    async fn archive_debt_total(
        &self,
        owner: AccountId,
        rows_max: u32,
    ) -> Result<DebtTotals, Error>;

    /// The stored watermark.
    async fn archive_watermark(&self, owner: AccountId) -> Result<Watermark, Error>;

    /// The newest position ever given to the owner; 0: none.
    async fn archive_last_position(&self, owner: AccountId) -> Result<Position, Error>;

    /// One page of archived rows.
    async fn archive_query(
        &self,
        owner: AccountId,
        filter: &ArchiveFilter,
        page: &PageRequest,
    ) -> Result<ArchivePage, Error>;

    /// Which of these positions are archived rows of the owner, in the order asked.
    async fn archive_exists(
        &self,
        owner: AccountId,
        positions: &[Position],
    ) -> Result<Vec<bool>, Error>;

    /// First and last archived row.
    async fn archive_metadata(&self, owner: AccountId) -> Result<ArchiveMetadata, Error>;

    /// Replaces one owner's bytes (XEP-0424 tombstone); full text does not find the row any more. False: no such row.
    async fn archive_replace(
        &self,
        fence: Fence,
        owner: AccountId,
        pos: Position,
        bytes: &[u8],
    ) -> Result<bool, Error>;

    /// Deletes the oldest rows beyond `keep`, at most `limit` in this step. Debts are never deleted.
    async fn archive_retain(
        &self,
        fence: Fence,
        owner: AccountId,
        keep: Keep,
        limit: u32,
    ) -> Result<Retained, Error>;

    /// Deletes rows that existed only for their debt and are at or below their account's watermark: of accounts from
    /// `from` on, at most `limit` rows in this step. Their messages go with their last owner, at once or with
    /// [`Maintenance::sweep`](crate::Maintenance::sweep).
    async fn archive_forget_paid(
        &self,
        fence: Fence,
        from: AccountId,
        limit: u32,
    ) -> Result<Forgotten, Error>;

    /// Rows the account sent, newest first, at most `limit` and, beyond the first, at most `bytes_max` together, none
    /// before `not_before`.
    async fn archive_recent_sent(
        &self,
        owner: AccountId,
        limit: u32,
        bytes_max: u64,
        not_before: Timestamp,
    ) -> Result<Vec<SentRow>, Error>;

    /// Resend keys of an account without an archive, newest first, at most `limit`, none before `not_before`.
    async fn archive_resend_keys(
        &self,
        account: AccountId,
        limit: u32,
        not_before: Timestamp,
    ) -> Result<Vec<ResendKey>, Error>;
}
