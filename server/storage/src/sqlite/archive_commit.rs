//! One batch of the archive in one transaction, by cached statements; heads of owners come from memory.

use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params};

use super::worker::WriterState;
use super::{error, execute, optional};
use crate::codec::{encode_ranges, searchable};
use crate::heads::Head;
use crate::{AccountId, Commit, Error, Position, Timestamp};

/// Texts that are indexed in one transaction: few enough not to be felt by a message that waits behind them.
pub(super) const WORDS_STEP_TEXTS: u32 = 512;

/// Writes the batch inside the transaction that is open.
pub(super) fn commit(
    connection: &Connection,
    state: &mut WriterState,
    batch: &Commit,
) -> Result<Vec<Position>, Error> {
    let places = give_places(connection, state, batch)?;
    let ids = insert_messages(connection, state, batch, &places)?;
    insert_rows(connection, batch, &places, &ids)?;
    for (owner, watermark) in &batch.watermarks {
        execute(
            connection,
            "UPDATE archive_owner SET acked_up_to = ?2, acked_above = ?3 WHERE owner = ?1 AND acked_up_to <= ?2",
            params![
                owner.0,
                watermark.acked_up_to.0,
                encode_ranges(&watermark.acked_above)
            ],
        )?;
    }
    for key in &batch.resend_keys {
        execute(
            connection,
            "INSERT INTO resend_key (account, at, key) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![key.account.0, key.at.0, key.key],
        )?;
    }
    Ok(places
        .iter()
        .map(|place| place.map_or(Position(0), |(pos, _)| pos))
        .collect())
}

type Place = Option<(Position, Timestamp)>;

fn give_places(
    connection: &Connection,
    state: &mut WriterState,
    batch: &Commit,
) -> Result<Vec<Place>, Error> {
    let mut places = Vec::with_capacity(batch.rows.len());
    for row in &batch.rows {
        if !state.heads.contains(row.owner)
            && let Some(head) = load_head(connection, row.owner)?
        {
            state.heads.insert(row.owner, head);
        }
        places.push(state.heads.advance(row.owner, row.at));
    }
    Ok(places)
}

/// `None`: no such account.
fn load_head(connection: &Connection, owner: AccountId) -> Result<Option<Head>, Error> {
    optional(
        connection,
        "SELECT max(o.pos_floor, o.acked_up_to, coalesce(a.pos, 0)), coalesce(a.at, 0)
         FROM archive_owner o LEFT JOIN archive a
         ON a.owner = o.owner AND a.pos = (SELECT max(pos) FROM archive WHERE owner = ?1) WHERE o.owner = ?1",
        [owner.0],
        |row| Ok(Head { pos: row.get(0)?, at: row.get(1)? }),
    )
}

/// Stores the messages that some row refers to; answers an id for each, 0 for those not stored.
fn insert_messages(
    connection: &Connection,
    state: &mut WriterState,
    batch: &Commit,
    places: &[Place],
) -> Result<Vec<i64>, Error> {
    if state.next_message == 0 {
        // An id below the head of the words would never be indexed.
        let next = optional(
            connection,
            "SELECT max((SELECT coalesce(max(id), 0) FROM message), up_to) + 1 FROM words_head",
            [],
            |row| row.get(0),
        )?;
        state.next_message = next.unwrap_or(1);
    }
    let mut owners = vec![0_i64; batch.messages.len()];
    for (row, place) in batch.rows.iter().zip(places) {
        let count = owners
            .get_mut(row.message)
            .ok_or_else(|| Error::Other("row without a message".into()))?;
        *count += i64::from(place.is_some() && row.own_bytes.is_none());
    }
    let mut insert = prepared(
        connection,
        "INSERT INTO message (id, owners, bytes) VALUES (?1, ?2, ?3)",
    )?;
    let mut insert_text = prepared(
        connection,
        "INSERT INTO message_text (message, content) VALUES (?1, ?2)",
    )?;
    let mut ids = Vec::with_capacity(owners.len());
    let texts = searchable(batch, places);
    for ((message, owners), text) in batch.messages.iter().zip(owners).zip(texts) {
        if owners == 0 {
            ids.push(0);
            continue;
        }
        let id = state.next_message;
        state.next_message += 1;
        insert
            .execute(params![id, owners, &message.bytes[..]])
            .map_err(error)?;
        if let Some(text) = text {
            insert_text.execute(params![id, text]).map_err(error)?;
            state.unindexed += 1;
        }
        ids.push(id);
    }
    Ok(ids)
}

fn insert_rows(
    connection: &Connection,
    batch: &Commit,
    places: &[Place],
    ids: &[i64],
) -> Result<(), Error> {
    let mut insert = prepared(
        connection,
        "INSERT INTO archive (owner, pos, at, message, flags, kind, peer, peer_resource, own_bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (row, place) in batch.rows.iter().zip(places) {
        let Some((pos, at)) = place else { continue };
        let own = row.own_bytes.as_deref();
        insert
            .execute(params![
                row.owner.0,
                pos.0,
                at.0,
                own.is_none().then(|| ids[row.message]),
                row.flags.bits(),
                row.kind as i16,
                row.peer,
                row.peer_resource,
                own,
            ])
            .map_err(error)?;
    }
    Ok(())
}

fn prepared<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, Error> {
    connection.prepare_cached(sql).map_err(error)
}

/// Indexes the words of the next texts, in a transaction of its own; true: there are more.
pub(super) fn index_words(connection: &Connection) -> Result<bool, Error> {
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(error)?;
    let next = "SELECT count(*), max(message) FROM (SELECT message FROM message_text
                WHERE message > (SELECT up_to FROM words_head) ORDER BY message LIMIT ?1)";
    let next = optional(connection, next, [WORDS_STEP_TEXTS], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    let Some((count, Some(last))) = next else {
        return Ok(false);
    };
    execute(
        connection,
        "INSERT INTO message_words (rowid, content) SELECT message, content FROM message_text
         WHERE message > (SELECT up_to FROM words_head) AND message <= ?1 ORDER BY message",
        [last],
    )?;
    execute(connection, "UPDATE words_head SET up_to = ?1", [last])?;
    transaction.commit().map_err(error)?;
    Ok(count == WORDS_STEP_TEXTS)
}

/// Deletes one row, and its message if this was the last owner.
pub(super) fn delete_row(
    connection: &Connection,
    owner: AccountId,
    pos: Position,
) -> Result<(), Error> {
    let message: Option<Option<i64>> = optional(
        connection,
        "DELETE FROM archive WHERE owner = ?1 AND pos = ?2 RETURNING message",
        params![owner.0, pos.0],
        |row| row.get(0),
    )?;
    let Some(message) = message else {
        return Ok(());
    };
    message.map_or(Ok(()), |message| release_message(connection, message))
}

/// One owner less; with the last, message and words go.
pub(super) fn release_message(connection: &Connection, message: i64) -> Result<(), Error> {
    execute(
        connection,
        "UPDATE message SET owners = owners - 1 WHERE id = ?1",
        [message],
    )?;
    for sql in [
        "DELETE FROM message WHERE id = ?1 AND owners <= 0",
        "DELETE FROM message_text WHERE message = ?1",
        "DELETE FROM message_words WHERE rowid = ?1",
    ] {
        if execute(connection, sql, [message])? == 0 {
            break;
        }
    }
    Ok(())
}

/// Positions up to here are never given again, though their rows are gone.
pub(super) fn raise_floor(
    connection: &Connection,
    owner: AccountId,
    pos: Position,
) -> Result<(), Error> {
    execute(
        connection,
        "UPDATE archive_owner SET pos_floor = ?2 WHERE owner = ?1 AND pos_floor < ?2",
        params![owner.0, pos.0],
    )?;
    Ok(())
}
