//! Reading the archive: pages, bounds by time, debts.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::{all, blob, error, optional};
use crate::codec::{decode_kind, decode_watermark, owner_word, words};
use crate::{
    AccountId, ArchiveFilter, ArchivePage, ArchivedRow, DEBT_LOOK_ROWS_MAX, DebtPage, DebtTotals,
    Direction, Error, PageRequest, Position, RowFlags, Timestamp, Watermark,
};

const COLUMNS: &str =
    "a.pos, a.at, a.flags, a.kind, a.peer, a.peer_resource, coalesce(a.own_bytes, m.bytes)";

/// The columns of [`COLUMNS`].
fn archived_row(row: &Row<'_>) -> rusqlite::Result<Result<ArchivedRow, Error>> {
    let kind = decode_kind(row.get(3)?);
    let read = ArchivedRow {
        pos: Position(row.get(0)?),
        at: Timestamp(row.get(1)?),
        flags: RowFlags::from_bits(row.get(2)?),
        kind: crate::MessageKind::Normal,
        peer: row.get(4)?,
        peer_resource: row.get(5)?,
        bytes: blob(row, 6)?.into(),
    };
    Ok(kind.map(|kind| ArchivedRow { kind, ..read }))
}

/// The first position whose row is not before `at`; one past the end where there is none. `at` never falls with the
/// position, so the primary key is enough.
pub(super) fn first_at_or_after(
    connection: &Connection,
    owner: AccountId,
    at: Timestamp,
) -> Result<i64, Error> {
    let ends = optional(
        connection,
        "SELECT (SELECT min(pos) FROM archive WHERE owner = ?1), (SELECT max(pos) FROM archive WHERE owner = ?1)",
        [owner.0],
        |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
    )?;
    let Some((Some(first), Some(last))) = ends else {
        return Ok(1);
    };
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = optional(
            connection,
            "SELECT pos, at FROM archive WHERE owner = ?1 AND pos >= ?2 ORDER BY pos LIMIT 1",
            [owner.0, middle],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        match row {
            Some((pos, there)) if there < at.0 => low = pos + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Exclusive bounds of the positions a filter allows.
fn bounds(
    connection: &Connection,
    owner: AccountId,
    filter: &ArchiveFilter,
) -> Result<(i64, i64), Error> {
    let mut low = filter.after.map_or(0, |pos| pos.0);
    let mut high = filter.before.map_or(i64::MAX, |pos| pos.0);
    if let Some(start) = filter.start {
        low = low.max(first_at_or_after(connection, owner, start)? - 1);
    }
    if let Some(end) = filter.end {
        high = high.min(first_at_or_after(
            connection,
            owner,
            Timestamp(end.0.saturating_add(1)),
        )?);
    }
    Ok((low, high))
}

/// The conditions of a filter beyond its bounds, as SQL and values from parameter 4 on.
fn conditions(owner: AccountId, filter: &ArchiveFilter) -> (String, Vec<Value>) {
    let mut sql = String::new();
    let mut values = Vec::new();
    let mut add = |text: &str, value: Value| {
        values.push(value);
        sql.push_str(&text.replace("?N", &format!("?{}", values.len() + 3)));
    };
    if let Some((peer, resource)) = &filter.with {
        add(" AND a.peer = ?N", peer.clone().into());
        if let Some(resource) = resource {
            add(" AND a.peer_resource = ?N", resource.clone().into());
        }
    }
    if let Some(ids) = &filter.ids {
        let list: Vec<i64> = ids.iter().map(|pos| pos.0).collect();
        let json = serde_json::to_string(&list).expect("integers have a JSON form");
        add(
            " AND a.pos IN (SELECT value FROM json_each(?N))",
            json.into(),
        );
    }
    if let Some(text) = &filter.text {
        let mut words = words(text);
        // Nothing to look for finds nothing: this is nobody's word.
        words.push(if words.is_empty() {
            ":".into()
        } else {
            owner_word(owner)
        });
        // Quoted, nothing in a word is FTS5 syntax.
        let matching = format!("\"{}\"", words.join("\" AND \""));
        add(
            " AND a.message IN (SELECT rowid FROM message_words WHERE message_words MATCH ?N",
            matching.into(),
        );
        let json = serde_json::to_string(&words).expect("strings have a JSON form");
        // What is not indexed yet.
        add(
            " UNION ALL SELECT t.message FROM message_text t WHERE t.message > (SELECT up_to FROM words_head)
              AND NOT EXISTS (SELECT 1 FROM json_each(?N) w WHERE instr(' ' || t.content || ' ', ' ' || w.value || ' ') = 0))",
            json.into(),
        );
    }
    (sql, values)
}

pub(super) fn page(
    connection: &Connection,
    owner: AccountId,
    filter: &ArchiveFilter,
    request: &PageRequest,
) -> Result<ArchivePage, Error> {
    let (low, high) = bounds(connection, owner, filter)?;
    let (conditions, values) = conditions(owner, filter);
    let from = format!(
        "FROM archive a LEFT JOIN message m ON m.id = a.message
         WHERE a.owner = ?1 AND a.pos > ?2 AND a.pos < ?3 AND a.flags & 1 = 1{conditions}"
    );
    let bind = |low: i64, high: i64| {
        params_from_iter(
            [owner.0, low, high]
                .into_iter()
                .map(Value::Integer)
                .chain(values.iter().cloned())
                .collect::<Vec<_>>(),
        )
    };
    let anchor = request.anchor.map(|pos| pos.0);
    let (from_low, to_high, order) = match request.direction {
        Direction::Forward => (low.max(anchor.unwrap_or(0)), high, "ASC"),
        Direction::Backward => (low, high.min(anchor.unwrap_or(i64::MAX)), "DESC"),
    };
    let limit = i64::from(request.limit) + 1;
    let sql = format!("SELECT {COLUMNS} {from} ORDER BY a.pos {order} LIMIT {limit}");
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    let mut found = statement.query(bind(from_low, to_high)).map_err(error)?;
    let (mut rows, mut size, mut complete) = (Vec::new(), 0, true);
    while let Some(row) = found.next().map_err(error)? {
        let row = archived_row(row).map_err(error)??;
        size += row.bytes.len() as u64;
        if rows.len() >= request.limit as usize || (size > request.bytes_max && !rows.is_empty()) {
            complete = false;
            break;
        }
        rows.push(row);
    }
    if request.direction == Direction::Backward {
        rows.reverse();
    }
    let mut count = None;
    if request.count_max > 0 {
        let most = i64::from(request.count_max);
        let sql = format!("SELECT count(*) FROM (SELECT 1 {from} LIMIT {})", most + 1);
        let counted: Option<i64> = optional(connection, &sql, bind(low, high), |row| row.get(0))?;
        count = counted.filter(|n| *n <= most).map(|n| n as u64);
    }
    Ok(ArchivePage {
        rows,
        complete,
        count,
    })
}

pub(super) fn watermark(connection: &Connection, owner: AccountId) -> Result<Watermark, Error> {
    let stored = optional(
        connection,
        "SELECT acked_up_to, acked_above FROM archive_owner WHERE owner = ?1",
        [owner.0],
        |row| Ok((row.get(0)?, blob(row, 1)?)),
    )?;
    stored.map_or(Ok(Watermark::default()), |(up_to, above)| {
        decode_watermark(up_to, &above)
    })
}

/// Positions of debts, and how far they were looked for.
pub(super) struct Owed {
    pub positions: Vec<Position>,
    /// The last row looked at, or where the look began.
    pub up_to: Position,
    /// There was no row after it.
    pub complete: bool,
}

/// The debts among the next `look_rows` rows after `after`.
pub(super) fn owed(
    connection: &Connection,
    owner: AccountId,
    after: Position,
    look_rows: u32,
) -> Result<Owed, Error> {
    let watermark = watermark(connection, owner)?;
    let after = after.max(watermark.acked_up_to);
    let looked = all(
        connection,
        "SELECT pos, flags FROM archive WHERE owner = ?1 AND pos > ?2 ORDER BY pos LIMIT ?3",
        params![owner.0, after.0, look_rows],
        |row| Ok((Position(row.get(0)?), RowFlags::from_bits(row.get(1)?))),
    )?;
    Ok(Owed {
        up_to: looked.last().map_or(after, |(pos, _)| *pos),
        complete: looked.len() < look_rows as usize,
        positions: looked
            .into_iter()
            .filter(|(pos, flags)| flags.debt && !watermark.covers(*pos))
            .map(|(pos, _)| pos)
            .collect(),
    })
}

pub(super) fn debts(
    connection: &Connection,
    owner: AccountId,
    after: Position,
    limit: u32,
    bytes_max: u64,
) -> Result<DebtPage, Error> {
    let owed = owed(connection, owner, after, DEBT_LOOK_ROWS_MAX)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM archive a LEFT JOIN message m ON m.id = a.message WHERE a.owner = ?1 AND a.pos = ?2"
    );
    let mut page = DebtPage {
        rows: Vec::new(),
        up_to: owed.up_to,
        complete: owed.complete,
    };
    let mut size = 0;
    for pos in owed.positions {
        let row = optional(connection, &sql, params![owner.0, pos.0], archived_row)?;
        let row = row.ok_or_else(|| Error::Corrupt("a row vanished from a snapshot".into()))??;
        size += row.bytes.len() as u64;
        if page.rows.len() >= limit as usize || (size > bytes_max && !page.rows.is_empty()) {
            page.up_to = page.rows.last().map_or(after, |row| row.pos);
            page.complete = false;
            break;
        }
        page.rows.push(row);
    }
    Ok(page)
}

pub(super) fn debt_total(
    connection: &Connection,
    owner: AccountId,
    rows_max: u32,
) -> Result<DebtTotals, Error> {
    let look_rows = rows_max.saturating_add(DEBT_LOOK_ROWS_MAX);
    let owed = owed(connection, owner, Position(0), look_rows)?;
    let sql = "SELECT length(coalesce(a.own_bytes, m.bytes)), a.flags FROM archive a LEFT JOIN message m ON m.id = a.message
               WHERE a.owner = ?1 AND a.pos = ?2";
    let mut total = DebtTotals::default();
    for pos in owed.positions.iter().take(rows_max as usize) {
        let found = optional(connection, sql, params![owner.0, pos.0], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?))
        })?;
        if let Some((size, flags)) = found {
            let kind = total.of_mut(RowFlags::from_bits(flags).archived);
            kind.rows += 1;
            kind.bytes += size.unwrap_or(0) as u64;
        }
    }
    Ok(total)
}
