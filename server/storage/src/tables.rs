//! Every table as backup, copy and checks walk it: columns and how each value is typed, the same on both engines.

/// How a column's values are typed. Integers of every width are `Integer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Integer,
    Text,
    Bytes,
}

/// A table in the order in which its rows can be written: what others refer to comes first.
#[derive(Debug)]
pub(crate) struct Table {
    pub name: &'static str,
    /// The primary key's columns come first.
    pub columns: &'static [(&'static str, ColumnType)],
    /// How many columns make the primary key.
    pub key: usize,
}

/// A value on its way from one engine to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Rows read and written at once.
pub(crate) const BATCH_ROWS: usize = 2000;

/// Bytes of their texts and bytes together, beyond the last row: a stanza may be large.
pub(crate) const BATCH_BYTES: usize = 8 << 20;

/// Tables whose ids are never given again.
pub(crate) const SEQUENCES: [&str; 2] = ["account", "pubsub_node"];

use ColumnType::{Bytes, Integer, Text};

/// All tables but those made from others (`message_words`) and the engine's own.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "meta",
        key: 1,
        columns: &[("key", Text), ("value", Bytes)],
    },
    Table {
        name: "member_fence",
        key: 1,
        columns: &[("token", Integer), ("dead", Integer)],
    },
    Table {
        name: "account",
        key: 1,
        columns: &[
            ("id", Integer),
            ("host", Text),
            ("localpart", Text),
            ("disabled", Integer),
            ("created_at", Integer),
            ("credentials", Bytes),
            ("roster_version", Integer),
            ("roster_floor", Integer),
            ("archive_preferences", Text),
            ("blocked_version", Integer),
            ("blocked", Text),
            ("last_at", Integer),
            ("last_status", Text),
        ],
    },
    Table {
        name: "removed_account",
        key: 1,
        columns: &[("id", Integer)],
    },
    Table {
        name: "roster",
        key: 2,
        columns: &[
            ("account", Integer),
            ("jid", Text),
            ("name", Text),
            ("contact_groups", Text),
            ("subscription", Integer),
            ("ask", Integer),
            ("approved", Integer),
            ("hidden", Integer),
            ("version", Integer),
        ],
    },
    Table {
        name: "roster_removed",
        key: 2,
        columns: &[("account", Integer), ("jid", Text), ("version", Integer)],
    },
    Table {
        name: "pending_request",
        key: 2,
        columns: &[
            ("account", Integer),
            ("sender", Text),
            ("stanza", Bytes),
            ("at", Integer),
        ],
    },
    Table {
        name: "private_xml",
        key: 3,
        columns: &[
            ("account", Integer),
            ("namespace", Text),
            ("name", Text),
            ("xml", Text),
        ],
    },
    Table {
        name: "vcard",
        key: 1,
        columns: &[("account", Integer), ("xml", Text), ("photo_hash", Text)],
    },
    Table {
        name: "archive_owner",
        key: 1,
        columns: &[
            ("owner", Integer),
            ("pos_floor", Integer),
            ("acked_up_to", Integer),
            ("acked_above", Bytes),
        ],
    },
    Table {
        name: "message",
        key: 1,
        columns: &[("id", Integer), ("owners", Integer), ("bytes", Bytes)],
    },
    Table {
        name: "archive",
        key: 2,
        columns: &[
            ("owner", Integer),
            ("pos", Integer),
            ("at", Integer),
            ("message", Integer),
            ("flags", Integer),
            ("kind", Integer),
            ("peer", Text),
            ("peer_resource", Text),
            ("own_bytes", Bytes),
        ],
    },
    Table {
        name: "message_text",
        key: 1,
        columns: &[("message", Integer), ("content", Text)],
    },
    Table {
        name: "resend_key",
        key: 3,
        columns: &[("account", Integer), ("at", Integer), ("key", Bytes)],
    },
    Table {
        name: "pubsub_node",
        key: 1,
        columns: &[
            ("id", Integer),
            ("service", Text),
            ("node", Text),
            ("config", Bytes),
            ("version", Integer),
            ("created_at", Integer),
            ("item_seq", Integer),
        ],
    },
    Table {
        name: "pubsub_item",
        key: 2,
        columns: &[
            ("node", Integer),
            ("id", Text),
            ("seq", Integer),
            ("publisher", Text),
            ("payload", Bytes),
            ("at", Integer),
        ],
    },
    Table {
        name: "pubsub_subscription",
        key: 3,
        columns: &[
            ("node", Integer),
            ("jid", Text),
            ("subid", Text),
            ("state", Text),
            ("options", Bytes),
        ],
    },
    Table {
        name: "pubsub_affiliation",
        key: 2,
        columns: &[
            ("node", Integer),
            ("jid", Text),
            ("state", Text),
            ("options", Bytes),
        ],
    },
    Table {
        name: "saved_session",
        key: 1,
        columns: &[
            ("id", Text),
            ("account", Integer),
            ("state", Bytes),
            ("expires_at", Integer),
        ],
    },
];

/// A table's columns, as in a SELECT.
pub(crate) fn names(table: &Table) -> String {
    table
        .columns
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The same of its primary key.
pub(crate) fn key_names(table: &Table) -> String {
    table
        .columns
        .iter()
        .take(table.key)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Bytes of a row's texts and bytes.
pub(crate) fn row_bytes(cells: &[Cell]) -> usize {
    let size = |cell: &Cell| match cell {
        Cell::Null | Cell::Integer(_) => 0,
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
    };
    cells.iter().map(size).sum()
}

/// A digest of a row that is the same on both engines. Sums of these compare whole tables without an order.
pub(crate) fn row_digest(cells: &[Cell]) -> u64 {
    // FNV-1a: a check against mistakes, not against malice.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for cell in cells {
        match cell {
            Cell::Null => add(&[0]),
            Cell::Integer(value) => {
                add(&[1]);
                add(&value.to_be_bytes());
            }
            Cell::Text(value) => {
                add(&[2]);
                add(&(value.len() as u64).to_be_bytes());
                add(value.as_bytes());
            }
            Cell::Bytes(value) => {
                add(&[3]);
                add(&(value.len() as u64).to_be_bytes());
                add(value);
            }
        }
    }
    hash
}
