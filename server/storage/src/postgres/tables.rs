//! Whole tables: reading, writing and counting their rows.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe};

use super::pool::Lease;
use super::{get, scalar};
use crate::tables::{
    BATCH_BYTES, BATCH_ROWS, Cell, ColumnType, SEQUENCES, TABLES, Table, key_names, names,
    row_digest,
};
use crate::{Error, Progress, TableCount};

/// Messages that come from elsewhere have no month: they lie in a partition of their own.
const COPIED_MONTH: i32 = 0;

fn cells(row: &PgRow, table: &Table, count: usize) -> Result<Vec<Cell>, Error> {
    table
        .columns
        .iter()
        .take(count)
        .enumerate()
        .map(|(index, (_, kind))| {
            Ok(match kind {
                ColumnType::Integer => {
                    get::<Option<i64>>(row, index)?.map_or(Cell::Null, Cell::Integer)
                }
                ColumnType::Text => {
                    get::<Option<String>>(row, index)?.map_or(Cell::Null, Cell::Text)
                }
                ColumnType::Bytes => {
                    get::<Option<Vec<u8>>>(row, index)?.map_or(Cell::Null, Cell::Bytes)
                }
            })
        })
        .collect()
}

/// The columns, integers of every width as the widest.
fn selected(table: &Table, count: usize) -> String {
    let column = |(name, kind): &(&str, ColumnType)| match kind {
        ColumnType::Integer => format!("{name}::bigint"),
        _ => (*name).to_owned(),
    };
    table
        .columns
        .iter()
        .take(count)
        .map(column)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The next rows in key order after the row that begins with the key `after`; none: the table's end.
pub(crate) async fn batch(
    lease: &mut Lease,
    table: &Table,
    after: Option<&[Cell]>,
) -> Result<Vec<Vec<Cell>>, Error> {
    let key = key_names(table);
    let mut arguments = PgArguments::default();
    let mut places = Vec::new();
    for cell in after.unwrap_or_default().iter().take(table.key) {
        add(&mut arguments, cell)?;
        places.push(format!("${}", arguments.len()));
    }
    let condition = if places.is_empty() {
        String::new()
    } else {
        format!("WHERE ({key}) > ({})", places.join(", "))
    };
    let selected = selected(table, table.columns.len());
    let sizes = table
        .columns
        .iter()
        .filter(|(_, kind)| *kind != ColumnType::Integer)
        .map(|(name, _)| format!("+ coalesce(octet_length({name}), 0)::bigint"))
        .collect::<String>();
    // Sizes are known without reading what is large; only what fits is read and sent.
    let sql = format!(
        "SELECT {selected} FROM (SELECT s.*, sum(batch_size) OVER (ORDER BY {key}) AS batch_total FROM
         (SELECT {}, 0::bigint {sizes} AS batch_size FROM {} {condition} ORDER BY {key} LIMIT {BATCH_ROWS}) s) w
         WHERE batch_total - batch_size < {BATCH_BYTES} ORDER BY {key}",
        names(table),
        table.name
    );
    let rows = lease
        .all(sqlx::query_with(AssertSqlSafe(sql), arguments))
        .await?;
    rows.iter()
        .map(|row| cells(row, table, table.columns.len()))
        .collect()
}

/// The greatest key that is there.
pub(crate) async fn last_key(lease: &mut Lease, table: &Table) -> Result<Option<Vec<Cell>>, Error> {
    let order = key_names(table)
        .split(", ")
        .map(|name| format!("{name} DESC"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!(
        "SELECT {} FROM {} ORDER BY {order} LIMIT 1",
        selected(table, table.key),
        table.name
    );
    let row = lease.optional(sqlx::query(AssertSqlSafe(sql))).await?;
    row.map(|row| cells(&row, table, table.key)).transpose()
}

fn add(arguments: &mut PgArguments, cell: &Cell) -> Result<(), Error> {
    match cell {
        Cell::Null => arguments.add(None::<i64>),
        Cell::Integer(value) => arguments.add(*value),
        Cell::Text(value) => arguments.add(value),
        Cell::Bytes(value) => arguments.add(value),
    }
    .map_err(|e| Error::Other(e.to_string()))
}

/// Writes rows in one transaction.
pub(crate) async fn write(
    lease: &mut Lease,
    table: &Table,
    rows: &[Vec<Cell>],
) -> Result<(), Error> {
    let mut arguments = PgArguments::default();
    for (index, (_, kind)) in table.columns.iter().enumerate() {
        let wrong = || Error::Corrupt(format!("{}: a value of the wrong type", table.name));
        match kind {
            ColumnType::Integer => {
                let column = rows.iter().map(|row| match &row[index] {
                    Cell::Null => Ok(None),
                    Cell::Integer(value) => Ok(Some(*value)),
                    _ => Err(wrong()),
                });
                arguments.add(column.collect::<Result<Vec<Option<i64>>, Error>>()?)
            }
            ColumnType::Text => {
                let column = rows.iter().map(|row| match &row[index] {
                    Cell::Null => Ok(None),
                    Cell::Text(value) => Ok(Some(value.as_str())),
                    _ => Err(wrong()),
                });
                arguments.add(column.collect::<Result<Vec<Option<&str>>, Error>>()?)
            }
            ColumnType::Bytes => {
                let column = rows.iter().map(|row| match &row[index] {
                    Cell::Null => Ok(None),
                    Cell::Bytes(value) => Ok(Some(value.as_slice())),
                    _ => Err(wrong()),
                });
                arguments.add(column.collect::<Result<Vec<Option<&[u8]>>, Error>>()?)
            }
        }
        .map_err(|e| Error::Other(e.to_string()))?;
    }
    let places: Vec<_> = (1..=table.columns.len()).map(|n| format!("${n}")).collect();
    // Only the server's own values are there before a copy, and may be written twice.
    let conflict = if table.name == "meta" {
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    } else {
        ""
    };
    let (month, of_month) = match table.name {
        "message" | "archive" => (", month".to_owned(), format!(", {COPIED_MONTH}")),
        _ => Default::default(),
    };
    let columns = names(table);
    let sql = format!(
        "INSERT INTO {} ({columns}{month}) SELECT {columns}{of_month} FROM unnest({}) u ({columns}) {conflict}",
        table.name,
        places.join(", ")
    );
    lease
        .execute(sqlx::query_with(AssertSqlSafe(sql), arguments))
        .await
        .map(drop)
}

/// The greatest id ever given in each table whose ids are never given again.
pub(crate) async fn sequences(lease: &mut Lease) -> Result<Vec<i64>, Error> {
    let mut greatest = Vec::new();
    for table in SEQUENCES {
        let sql =
            format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_id_seq");
        greatest.push(scalar(lease.optional(sqlx::query(AssertSqlSafe(sql))).await?)?.unwrap_or(0));
    }
    Ok(greatest)
}

/// Ids from now on are above these, and above those of the messages that are there.
pub(crate) async fn set_sequences(lease: &mut Lease, greatest: &[i64]) -> Result<(), Error> {
    for (table, greatest) in SEQUENCES.iter().zip(greatest) {
        let sql = "SELECT setval(pg_get_serial_sequence($1, 'id'), greatest($2, 1), $2 > 0)";
        lease
            .optional(sqlx::query(sql).bind(*table).bind(*greatest))
            .await?;
    }
    let sql = "SELECT setval('message_block', greatest((SELECT coalesce(max(id), 0) / $1 + 1 FROM message),
               (SELECT last_value FROM message_block)))";
    lease
        .optional(sqlx::query(sql).bind(super::writer::BLOCK_MESSAGES))
        .await
        .map(drop)
}

/// Counts and checksums of all tables.
pub(crate) async fn counts(
    lease: &mut Lease,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    let mut counts = Vec::new();
    for table in TABLES {
        let (mut rows, mut checksum) = (0, 0_u64);
        let mut last: Option<Vec<Cell>> = None;
        loop {
            let batch = batch(lease, table, last.as_deref()).await?;
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
