//! Reading the archive: pages and debts.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe};

use super::pool::Lease;
use super::{get, scalar};
use crate::codec::{decode_kind, decode_watermark, owner_word, words};
use crate::{
    AccountId, ArchiveFilter, ArchivePage, ArchivedRow, DEBT_LOOK_ROWS_MAX, DebtPage, DebtTotal,
    DebtTotals, Direction, Error, PageRequest, Position, RowFlags, Timestamp, Watermark,
};

const COLUMNS: &str =
    "a.pos, a.at, a.flags, a.kind, a.peer, a.peer_resource, coalesce(a.own_bytes, m.bytes, '')";
const TABLES: &str = "archive a LEFT JOIN message m ON m.id = a.message AND m.month = a.month";

/// The columns of [`COLUMNS`].
fn archived_row(row: &PgRow) -> Result<ArchivedRow, Error> {
    let bytes: Vec<u8> = get(row, 6)?;
    Ok(ArchivedRow {
        pos: Position(get(row, 0)?),
        at: Timestamp(get(row, 1)?),
        flags: RowFlags::from_bits(get(row, 2)?),
        kind: decode_kind(get(row, 3)?)?,
        peer: get(row, 4)?,
        peer_resource: get(row, 5)?,
        bytes: bytes.into(),
    })
}

/// The first position whose row is not before `at`; one past the end where there is none.
pub(super) async fn first_at_or_after(
    lease: &mut Lease,
    owner: AccountId,
    at: Timestamp,
) -> Result<i64, Error> {
    let row = lease
        .optional(
            sqlx::query("SELECT archive_first_at($1, $2)")
                .bind(owner.0)
                .bind(at.0),
        )
        .await?;
    Ok(scalar(row)?.unwrap_or(1))
}

/// Exclusive bounds of the positions a filter allows.
async fn bounds(
    lease: &mut Lease,
    owner: AccountId,
    filter: &ArchiveFilter,
) -> Result<(i64, i64), Error> {
    let mut low = filter.after.map_or(0, |pos| pos.0);
    let mut high = filter.before.map_or(i64::MAX, |pos| pos.0);
    if let Some(start) = filter.start {
        low = low.max(first_at_or_after(lease, owner, start).await? - 1);
    }
    if let Some(end) = filter.end {
        high = high.min(first_at_or_after(lease, owner, Timestamp(end.0.saturating_add(1))).await?);
    }
    Ok((low, high))
}

/// A query's condition and its values, bounds first.
struct Condition {
    sql: String,
    arguments: PgArguments,
}

fn condition(
    owner: AccountId,
    filter: &ArchiveFilter,
    low: i64,
    high: i64,
) -> Result<Condition, Error> {
    let mut arguments = PgArguments::default();
    let mut add = |value: Value<'_>| {
        let added = match value {
            Value::Integer(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Integers(value) => arguments.add(value),
        };
        added.map_err(|e| Error::Other(e.to_string()))?;
        Ok::<_, Error>(arguments.len())
    };
    for value in [owner.0, low, high] {
        add(Value::Integer(value))?;
    }
    let mut sql = "a.owner = $1 AND a.pos > $2 AND a.pos < $3 AND a.flags & 1 = 1".to_owned();
    if let Some((peer, resource)) = &filter.with {
        sql.push_str(&format!(" AND a.peer = ${}", add(Value::Text(peer))?));
        if let Some(resource) = resource {
            sql.push_str(&format!(
                " AND a.peer_resource = ${}",
                add(Value::Text(resource))?
            ));
        }
    }
    if let Some(ids) = &filter.ids {
        let ids = ids.iter().map(|pos| pos.0).collect();
        sql.push_str(&format!(
            " AND a.pos = ANY (${}::bigint[])",
            add(Value::Integers(ids))?
        ));
    }
    if let Some(text) = &filter.text {
        let query = matching(owner, text);
        sql.push_str(&format!(
            " AND a.message IN (SELECT t.message FROM message_text t WHERE t.words @@ ${}::tsquery)",
            add(Value::Text(&query))?
        ));
    }
    Ok(Condition { sql, arguments })
}

enum Value<'v> {
    Integer(i64),
    Text(&'v str),
    Integers(Vec<i64>),
}

/// All the words, each quoted; they are letters and digits, so that nothing in them is tsquery syntax. Every text carries
/// its owners as words that no text can have.
fn matching(owner: AccountId, text: &str) -> String {
    let words = words(text);
    // Nothing to look for finds nothing.
    if words.is_empty() {
        return "':none'".into();
    }
    let mut query = format!("'{}'", owner_word(owner));
    for word in words {
        query.push_str(&format!(" & '{word}'"));
    }
    query
}

pub(super) async fn page(
    lease: &mut Lease,
    owner: AccountId,
    filter: &ArchiveFilter,
    request: &PageRequest,
) -> Result<ArchivePage, Error> {
    let (low, high) = bounds(lease, owner, filter).await?;
    let anchor = request.anchor.map(|pos| pos.0);
    let (from_low, to_high, order) = match request.direction {
        Direction::Forward => (low.max(anchor.unwrap_or(0)), high, "ASC"),
        Direction::Backward => (low, high.min(anchor.unwrap_or(i64::MAX)), "DESC"),
    };
    let Condition { sql, arguments } = condition(owner, filter, from_low, to_high)?;
    let limit = i64::from(request.limit) + 1;
    let bytes_max = i64::try_from(request.bytes_max).unwrap_or(i64::MAX);
    // Sizes are known without reading the bytes; only what fits is read and sent.
    let sql = format!(
        "WITH fitting AS (SELECT * FROM (SELECT s.*, sum(s.size) OVER seen AS total,
         row_number() OVER seen AS number, count(*) OVER () AS candidates FROM
         (SELECT a.pos, a.month, octet_length(coalesce(a.own_bytes, m.bytes, ''))::bigint AS size
         FROM {TABLES} WHERE {sql} ORDER BY a.pos {order} LIMIT {limit}) s
         WINDOW seen AS (ORDER BY s.pos {order})) w WHERE w.total <= {bytes_max} OR w.number = 1)
         SELECT {COLUMNS}, f.candidates FROM fitting f
         JOIN archive a ON a.owner = $1 AND a.pos = f.pos AND a.month = f.month
         LEFT JOIN message m ON m.id = a.message AND m.month = a.month ORDER BY a.pos {order}"
    );
    let rows = lease
        .all(sqlx::query_with(AssertSqlSafe(sql), arguments))
        .await?;
    let candidates: i64 = rows.first().map_or(Ok(0), |row| get(row, 7))?;
    let complete = candidates <= i64::from(request.limit) && candidates == rows.len() as i64;
    let mut rows = rows
        .iter()
        .take(request.limit as usize)
        .map(archived_row)
        .collect::<Result<Vec<_>, Error>>()?;
    if request.direction == Direction::Backward {
        rows.reverse();
    }
    let mut count = None;
    if request.count_max > 0 {
        let Condition { sql, arguments } = condition(owner, filter, low, high)?;
        let most = i64::from(request.count_max);
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM archive a WHERE {sql} LIMIT {}) c",
            most + 1
        );
        let row = lease
            .optional(sqlx::query_with(AssertSqlSafe(sql), arguments))
            .await?;
        count = scalar::<i64>(row)?.filter(|n| *n <= most).map(|n| n as u64);
    }
    Ok(ArchivePage {
        rows,
        complete,
        count,
    })
}

pub(super) async fn watermark(lease: &mut Lease, owner: AccountId) -> Result<Watermark, Error> {
    let sql = "SELECT acked_up_to, acked_above FROM archive_owner WHERE owner = $1";
    let row = lease.optional(sqlx::query(sql).bind(owner.0)).await?;
    row.map_or(Ok(Watermark::default()), |row| {
        decode_watermark(get(&row, 0)?, get(&row, 1)?)
    })
}

/// The next rows of `$1` after `$2`, of which the debts are read.
fn looked(rows: u32) -> String {
    format!(
        "looked AS MATERIALIZED (SELECT pos, month, at, flags, kind, peer, peer_resource, message, own_bytes
         FROM archive WHERE owner = $1 AND pos > $2 ORDER BY pos LIMIT {rows})"
    )
}

const LOOKED_TABLES: &str =
    "looked a LEFT JOIN message m ON m.id = a.message AND m.month = a.month";

/// The debts' condition; `$3` and `$4` acknowledged ranges.
const OWED: &str = "a.flags & 2 = 2 AND NOT EXISTS
    (SELECT 1 FROM unnest($3::bigint[], $4::bigint[]) r (first, last) WHERE a.pos BETWEEN r.first AND r.last)";

fn owed_values(
    owner: AccountId,
    after: Position,
    watermark: &Watermark,
) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    let first: Vec<_> = watermark
        .acked_above
        .iter()
        .map(|range| range.first.0)
        .collect();
    let last: Vec<_> = watermark
        .acked_above
        .iter()
        .map(|range| range.last.0)
        .collect();
    arguments
        .add(owner.0)
        .and_then(|()| arguments.add(after.0))
        .and_then(|()| arguments.add(first))
        .and_then(|()| arguments.add(last))
        .map_err(|e| Error::Other(e.to_string()))?;
    Ok(arguments)
}

pub(super) async fn debts(
    lease: &mut Lease,
    owner: AccountId,
    after: Position,
    limit: u32,
    bytes_max: u64,
) -> Result<DebtPage, Error> {
    let watermark = watermark(lease, owner).await?;
    let after = after.max(watermark.acked_up_to);
    let mut arguments = owed_values(owner, after, &watermark)?;
    let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    arguments
        .add(i64::from(limit))
        .and_then(|()| arguments.add(bytes_max))
        .map_err(|e| Error::Other(e.to_string()))?;
    // Sizes are known without reading the bytes; only what fits is read and sent. All of one snapshot.
    let sql = format!(
        "WITH {}, fitting AS (SELECT * FROM (SELECT s.*, sum(s.size) OVER seen AS total,
         row_number() OVER seen AS number, count(*) OVER () AS candidates FROM
         (SELECT a.*, octet_length(coalesce(a.own_bytes, m.bytes, ''))::bigint AS size
         FROM {LOOKED_TABLES} WHERE {OWED} ORDER BY a.pos LIMIT $5 + 1) s WINDOW seen AS (ORDER BY s.pos)) w
         WHERE w.number <= $5 AND (w.total <= $6 OR w.number = 1))
         SELECT {COLUMNS}, a.candidates, l.looked, l.up_to
         FROM (SELECT count(*) AS looked, max(pos) AS up_to FROM looked) l LEFT JOIN
         (fitting a LEFT JOIN message m ON m.id = a.message AND m.month = a.month) ON true ORDER BY a.pos",
        looked(DEBT_LOOK_ROWS_MAX)
    );
    let found = lease
        .all(sqlx::query_with(AssertSqlSafe(sql), arguments))
        .await?;
    let mut page = DebtPage::default();
    let mut candidates = 0;
    for row in &found {
        page.up_to = get::<Option<i64>>(row, 9)?.map_or(after, Position);
        page.complete = get::<i64>(row, 8)? < i64::from(DEBT_LOOK_ROWS_MAX);
        // Without a debt one row says how far the look went.
        if get::<Option<i64>>(row, 0)?.is_some() {
            page.rows.push(archived_row(row)?);
            candidates = get(row, 7)?;
        }
    }
    if candidates > page.rows.len() as i64 {
        page.up_to = page.rows.last().map_or(after, |row| row.pos);
        page.complete = false;
    }
    Ok(page)
}

pub(super) async fn debt_total(
    lease: &mut Lease,
    owner: AccountId,
    rows_max: u32,
) -> Result<DebtTotals, Error> {
    let watermark = watermark(lease, owner).await?;
    let arguments = owed_values(owner, watermark.acked_up_to, &watermark)?;
    let sql = format!(
        "WITH {} SELECT count(*) FILTER (WHERE s.archived), coalesce(sum(s.size) FILTER (WHERE s.archived), 0)::bigint,
         count(*) FILTER (WHERE NOT s.archived), coalesce(sum(s.size) FILTER (WHERE NOT s.archived), 0)::bigint FROM
         (SELECT octet_length(coalesce(a.own_bytes, m.bytes, '')) AS size, a.flags & 1 = 1 AS archived
         FROM {LOOKED_TABLES} WHERE {OWED} ORDER BY a.pos LIMIT {rows_max}) s",
        looked(rows_max.saturating_add(DEBT_LOOK_ROWS_MAX))
    );
    let rows = lease
        .all(sqlx::query_with(AssertSqlSafe(sql), arguments))
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Other("a count without a row".into()))?;
    let of = |rows, bytes| {
        Ok::<_, Error>(DebtTotal {
            rows: get::<i64>(row, rows)? as u64,
            bytes: get::<i64>(row, bytes)? as u64,
        })
    };
    Ok(DebtTotals {
        archived: of(0, 1)?,
        unarchived: of(2, 3)?,
    })
}
