CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE member_fence (
    token INTEGER PRIMARY KEY,
    dead INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE account (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    localpart TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    credentials BLOB NOT NULL,
    roster_version INTEGER NOT NULL DEFAULT 0,
    roster_floor INTEGER NOT NULL DEFAULT 0,
    archive_preferences TEXT,
    blocked_version INTEGER NOT NULL DEFAULT 0,
    blocked TEXT NOT NULL DEFAULT '[]',
    last_at INTEGER,
    last_status TEXT,
    UNIQUE (host, localpart)
) STRICT;

-- Accounts that are gone and whose archive is still being deleted in steps.
CREATE TABLE removed_account (
    id INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE roster (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    name TEXT,
    contact_groups TEXT NOT NULL DEFAULT '[]',
    subscription INTEGER NOT NULL DEFAULT 0,
    ask INTEGER NOT NULL DEFAULT 0,
    approved INTEGER NOT NULL DEFAULT 0,
    hidden INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_removed (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE pending_request (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    sender TEXT NOT NULL,
    stanza BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (account, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE private_xml (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    xml TEXT NOT NULL,
    PRIMARY KEY (account, namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE vcard (
    account INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    xml TEXT NOT NULL,
    photo_hash TEXT NOT NULL
) STRICT;

-- The archive's tables carry no foreign keys: their checks would cost more than the rows.
-- One row per account, made with it: a commit for an owner without one is left out.
CREATE TABLE archive_owner (
    owner INTEGER PRIMARY KEY,
    pos_floor INTEGER NOT NULL DEFAULT 0,
    acked_up_to INTEGER NOT NULL DEFAULT 0,
    acked_above BLOB NOT NULL DEFAULT x''
) STRICT;

-- owners: how many rows of archive refer to it; it goes with the last.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    owners INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE archive (
    owner INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    at INTEGER NOT NULL,
    message INTEGER,
    flags INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    peer TEXT NOT NULL,
    peer_resource TEXT,
    own_bytes BLOB,
    PRIMARY KEY (owner, pos)
) STRICT, WITHOUT ROWID;

CREATE INDEX archive_peer ON archive (owner, peer, pos);

CREATE TABLE archive_text (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (owner, pos)
) STRICT;

CREATE VIRTUAL TABLE archive_words USING fts5 (
    content, owner, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 0"
);

CREATE TABLE resend_key (
    account INTEGER NOT NULL,
    at INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (account, at, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE pubsub_node (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    config BLOB NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    item_seq INTEGER NOT NULL DEFAULT 0,
    UNIQUE (service, node)
) STRICT;

CREATE TABLE pubsub_item (
    node INTEGER NOT NULL REFERENCES pubsub_node (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    publisher TEXT NOT NULL,
    payload BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (node, id)
) STRICT;

CREATE UNIQUE INDEX pubsub_item_seq ON pubsub_item (node, seq);

CREATE TABLE pubsub_subscription (
    node INTEGER NOT NULL REFERENCES pubsub_node (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    subid TEXT NOT NULL,
    state TEXT NOT NULL,
    options BLOB NOT NULL,
    PRIMARY KEY (node, jid, subid)
) STRICT, WITHOUT ROWID;

CREATE TABLE pubsub_affiliation (
    node INTEGER NOT NULL REFERENCES pubsub_node (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    state TEXT NOT NULL,
    options BLOB NOT NULL,
    PRIMARY KEY (node, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE saved_session (
    id TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    state BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX saved_session_expires ON saved_session (expires_at);
