//! Whole tables: reading, writing and counting their rows.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params, params_from_iter};

use super::{error, execute, optional};
use crate::tables::{
    BATCH_BYTES, BATCH_ROWS, Cell, SEQUENCES, TABLES, Table, key_names, names, row_bytes,
    row_digest,
};
use crate::{Error, Progress, TableCount};

fn cell(value: ValueRef<'_>) -> Result<Cell, Error> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
        ValueRef::Blob(value) => Cell::Bytes(value.to_vec()),
        ValueRef::Real(_) => return Err(Error::Corrupt("a number that is not whole".into())),
    })
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(value) => Value::Integer(*value),
        Cell::Text(value) => Value::Text(value.clone()),
        Cell::Bytes(value) => Value::Blob(value.clone()),
    }
}

fn places(count: usize) -> String {
    (1..=count)
        .map(|n| format!("?{n}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn rows(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Vec<Cell>>, Error> {
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let width = statement.column_count();
    let mut rows = statement.query(params_from_iter(values)).map_err(error)?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(row) = rows.next().map_err(error)?
    {
        let cells = (0..width).map(|index| cell(row.get_ref(index).map_err(error)?));
        let cells = cells.collect::<Result<Vec<_>, Error>>()?;
        bytes += row_bytes(&cells);
        read.push(cells);
    }
    Ok(read)
}

/// The next rows in key order after the row that begins with the key `after`; none: the table's end.
pub(crate) fn batch(
    connection: &Connection,
    table: &Table,
    after: Option<&[Cell]>,
) -> Result<Vec<Vec<Cell>>, Error> {
    let key = key_names(table);
    let values: Vec<_> = after
        .unwrap_or_default()
        .iter()
        .take(table.key)
        .map(value)
        .collect();
    let condition = if values.is_empty() {
        String::new()
    } else {
        format!("WHERE ({key}) > ({})", places(table.key))
    };
    let sql = format!(
        "SELECT {} FROM {} {condition} ORDER BY {key} LIMIT {BATCH_ROWS}",
        names(table),
        table.name
    );
    rows(connection, &sql, values)
}

/// The greatest key that is there.
pub(crate) fn last_key(connection: &Connection, table: &Table) -> Result<Option<Vec<Cell>>, Error> {
    let key = key_names(table);
    let order = key
        .split(", ")
        .map(|name| format!("{name} DESC"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!("SELECT {key} FROM {} ORDER BY {order} LIMIT 1", table.name);
    Ok(rows(connection, &sql, Vec::new())?.pop())
}

/// Writes rows in one transaction. Words are indexed by the writer that opens the database.
pub(crate) fn write(
    connection: &Connection,
    table: &Table,
    rows: &[Vec<Cell>],
) -> Result<(), Error> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(error)?;
    let result = write_rows(connection, table, rows);
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute_batch(end).map_err(error).and(result)
}

fn write_rows(connection: &Connection, table: &Table, rows: &[Vec<Cell>]) -> Result<(), Error> {
    let sql = format!(
        "INSERT OR REPLACE INTO {} ({}) VALUES ({})",
        table.name,
        names(table),
        places(table.columns.len())
    );
    for row in rows {
        execute(connection, &sql, params_from_iter(row.iter().map(value)))?;
    }
    Ok(())
}

/// The greatest id ever given in each table whose ids are never given again.
pub(crate) fn sequences(connection: &Connection) -> Result<Vec<i64>, Error> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
    SEQUENCES
        .iter()
        .map(|table| Ok(optional(connection, sql, [table], |row| row.get(0))?.unwrap_or(0)))
        .collect()
}

/// Ids from now on are above these.
pub(crate) fn set_sequences(connection: &Connection, greatest: &[i64]) -> Result<(), Error> {
    for (table, greatest) in SEQUENCES.iter().zip(greatest) {
        let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
        if execute(connection, sql, params![table, greatest])? == 0 {
            execute(
                connection,
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
                params![table, greatest],
            )?;
        }
    }
    Ok(())
}

/// Counts and checksums of all tables.
pub(crate) fn counts(
    connection: &Connection,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    let mut counts = Vec::new();
    for table in TABLES {
        let (mut rows, mut checksum) = (0, 0_u64);
        let mut last: Option<Vec<Cell>> = None;
        loop {
            let batch = batch(connection, table, last.as_deref())?;
            if batch.is_empty() {
                break;
            }
            rows += batch.len() as u64;
            checksum = batch
                .iter()
                .fold(checksum, |sum, row| sum.wrapping_add(row_digest(row)));
            progress(table.name, rows);
            last = batch.into_iter().next_back();
        }
        counts.push(TableCount {
            table: table.name.into(),
            rows,
            checksum,
        });
    }
    Ok(counts)
}
