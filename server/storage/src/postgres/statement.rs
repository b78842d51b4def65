//! A batch of the archive as one statement: a chain of `WITH` over binary arrays, with only the parts that the batch has.

use std::collections::BTreeMap;

use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use crate::codec::{encode_ranges, searchable};
use crate::{Commit, Error, Position, Timestamp};

/// Where a batch's rows go.
pub(super) struct Places {
    /// `None`: no such owner.
    pub rows: Vec<Option<(Position, Timestamp)>>,
    /// The first message's id; the others follow.
    pub first_message: i64,
}

struct Builder {
    parts: Vec<String>,
    arguments: PgArguments,
    /// Appended to each part's `FROM` condition.
    fenced: &'static str,
}

impl Builder {
    /// Encodes a value; answers its place, `$n`.
    fn add<'v, T>(&mut self, value: T) -> Result<String, Error>
    where
        T: sqlx::Encode<'v, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'v,
    {
        self.arguments
            .add(value)
            .map_err(|e| Error::Other(e.to_string()))?;
        Ok(format!("${}", self.arguments.len()))
    }
}

/// The statement and its values; its one row is false where the fence did not hold. `None`: nothing to write.
pub(super) fn build(
    batch: &Commit,
    places: &Places,
) -> Result<Option<(String, PgArguments)>, Error> {
    let mut builder = Builder {
        parts: Vec::new(),
        arguments: PgArguments::default(),
        fenced: "true",
    };
    if let Some(token) = batch.fence.token() {
        let token = builder.add(token)?;
        builder.parts.push(format!(
            "fence AS MATERIALIZED (SELECT 1 FROM member_fence WHERE token = {token} AND dead = 0 FOR SHARE)"
        ));
        builder.fenced = "EXISTS (SELECT 1 FROM fence)";
    }
    add_rows(&mut builder, batch, places)?;
    add_owners(&mut builder, batch)?;
    add_resend_keys(&mut builder, batch)?;
    // An empty batch still asks whether the fence holds.
    if builder.parts.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "WITH {} SELECT {}",
        builder.parts.join(",\n"),
        builder.fenced
    );
    Ok(Some((sql, builder.arguments)))
}

/// Months since the year 0 of a time, in UTC.
pub(super) fn month_of(at: Timestamp) -> i32 {
    // Days to a civil month: eras of 400 years that begin in March.
    let days = at.0.div_euclid(86_400_000_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    ((year_of_era + era * 400) * 12 + march_month + 2) as i32
}

/// Owner rows as columns.
#[derive(Default)]
struct Columns<'b> {
    owner: Vec<i64>,
    pos: Vec<i64>,
    at: Vec<i64>,
    message: Vec<Option<i64>>,
    flags: Vec<i16>,
    kind: Vec<i16>,
    peer: Vec<&'b str>,
    resource: Vec<Option<&'b str>>,
    own: Vec<Option<&'b [u8]>>,
    /// Rows that refer to each message.
    owners_of: Vec<i16>,
}

fn columns<'b>(batch: &'b Commit, places: &Places) -> Result<Columns<'b>, Error> {
    let mut columns = Columns {
        owners_of: vec![0; batch.messages.len()],
        ..Default::default()
    };
    for (row, place) in batch.rows.iter().zip(&places.rows) {
        let count = columns.owners_of.get_mut(row.message);
        let count = count.ok_or_else(|| Error::Other("row without a message".into()))?;
        let Some((pos, at)) = place else { continue };
        let shared = row.own_bytes.is_none();
        *count += i16::from(shared);
        columns
            .message
            .push(shared.then(|| places.first_message + row.message as i64));
        columns.owner.push(row.owner.0);
        columns.pos.push(pos.0);
        columns.at.push(at.0);
        columns.flags.push(row.flags.bits());
        columns.kind.push(row.kind as i16);
        columns.peer.push(&row.peer);
        columns.resource.push(row.peer_resource.as_deref());
        columns.own.push(row.own_bytes.as_deref());
    }
    Ok(columns)
}

fn add_rows(builder: &mut Builder, batch: &Commit, places: &Places) -> Result<(), Error> {
    let rows = columns(batch, places)?;
    if rows.owner.is_empty() {
        return Ok(());
    }
    let newest = batch
        .rows
        .iter()
        .map(|row| row.at)
        .max()
        .unwrap_or_default();
    let month = builder.add(month_of(newest))?;
    add_messages(
        builder,
        batch,
        places.first_message,
        &rows.owners_of,
        &month,
    )?;
    let mut names = "owner, pos, at, message, flags, kind, peer, peer_resource".to_owned();
    let mut source = vec![
        builder.add(rows.owner)?,
        builder.add(rows.pos)?,
        builder.add(rows.at)?,
        builder.add(rows.message)?,
        builder.add(rows.flags)?,
        builder.add(rows.kind)?,
        builder.add(rows.peer)?,
        builder.add(rows.resource)?,
    ];
    if rows.own.iter().any(Option::is_some) {
        names.push_str(", own_bytes");
        source.push(builder.add(rows.own)?);
    }
    let (source, fenced) = (source.join(", "), builder.fenced);
    builder.parts.push(format!(
        "a AS (INSERT INTO archive ({names}, month)
         SELECT u.*, {month} FROM unnest({source}) u ({names}) WHERE {fenced})"
    ));
    add_texts(builder, batch, places)
}

fn add_messages(
    builder: &mut Builder,
    batch: &Commit,
    first: i64,
    owners_of: &[i16],
    month: &str,
) -> Result<(), Error> {
    let (mut ids, mut owners, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (message, count)) in batch.messages.iter().zip(owners_of).enumerate() {
        if *count > 0 {
            ids.push(first + index as i64);
            owners.push(*count);
            bytes.push(&message.bytes[..]);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let columns = [builder.add(ids)?, builder.add(owners)?, builder.add(bytes)?].join(", ");
    let fenced = builder.fenced;
    builder.parts.push(format!(
        "m AS (INSERT INTO message (month, id, owners, bytes)
         SELECT {month}, u.* FROM unnest({columns}) u WHERE {fenced})"
    ));
    Ok(())
}

fn add_texts(builder: &mut Builder, batch: &Commit, places: &Places) -> Result<(), Error> {
    let contents = searchable(batch, &places.rows);
    let (message, content): (Vec<_>, Vec<_>) = (places.first_message..)
        .zip(contents)
        .filter_map(|(message, content)| Some((message, content?)))
        .unzip();
    if message.is_empty() {
        return Ok(());
    }
    let columns = [builder.add(message)?, builder.add(content)?].join(", ");
    let fenced = builder.fenced;
    builder.parts.push(format!(
        "t AS (INSERT INTO message_text (message, content) SELECT u.* FROM unnest({columns}) u WHERE {fenced})"
    ));
    Ok(())
}

fn add_owners(builder: &mut Builder, batch: &Commit) -> Result<(), Error> {
    // One row can change only once in a statement.
    let mut newest = BTreeMap::<i64, (i64, Vec<u8>)>::new();
    for (owner, watermark) in &batch.watermarks {
        let up_to = watermark.acked_up_to.0;
        let earlier = newest.get(&owner.0);
        if earlier.is_none_or(|(earlier, _)| *earlier <= up_to) {
            newest.insert(owner.0, (up_to, encode_ranges(&watermark.acked_above)));
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let (mut owner, mut acked, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for (key, (up_to, ranges)) in newest {
        owner.push(key);
        acked.push(up_to);
        above.push(ranges);
    }
    let columns = [
        builder.add(owner)?,
        builder.add(acked)?,
        builder.add(above)?,
    ]
    .join(", ");
    let fenced = builder.fenced;
    builder.parts.push(format!(
        "o AS (UPDATE archive_owner o SET acked_up_to = u.acked, acked_above = u.above
         FROM unnest({columns}) u (owner, acked, above)
         WHERE o.owner = u.owner AND o.acked_up_to <= u.acked AND {fenced})"
    ));
    Ok(())
}

fn add_resend_keys(builder: &mut Builder, batch: &Commit) -> Result<(), Error> {
    if batch.resend_keys.is_empty() {
        return Ok(());
    }
    let account: Vec<_> = batch.resend_keys.iter().map(|key| key.account.0).collect();
    let at: Vec<_> = batch.resend_keys.iter().map(|key| key.at.0).collect();
    let key: Vec<_> = batch.resend_keys.iter().map(|key| &key.key[..]).collect();
    let columns = [builder.add(account)?, builder.add(at)?, builder.add(key)?].join(", ");
    let fenced = builder.fenced;
    builder.parts.push(format!(
        "k AS (INSERT INTO resend_key (account, at, key) SELECT u.* FROM unnest({columns}) u WHERE {fenced}
         ON CONFLICT DO NOTHING)"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_the_calendar() {
        let month = |seconds: i64| month_of(Timestamp(seconds * 1_000_000));
        assert_eq!(month(0), 1970 * 12);
        assert_eq!(month(-1), 1970 * 12 - 1);
        assert_eq!(month(951_782_400), 2000 * 12 + 1, "29 February 2000");
        assert_eq!(month(951_868_800), 2000 * 12 + 2);
        assert_eq!(month(1_798_761_599), 2026 * 12 + 11);
        assert_eq!(month(1_798_761_600), 2027 * 12);
    }
}
