-- What full text finds of a message, once for all its owners: a word `:N` for each of them, and its text's words.
CREATE TABLE message_text (
    message INTEGER PRIMARY KEY,
    content TEXT NOT NULL
) STRICT;

INSERT INTO message_text (message, content)
    SELECT a.message, group_concat(':' || a.owner, ' ') || ' ' || min(t.content)
    FROM archive_text t JOIN archive a ON a.owner = t.owner AND a.pos = t.pos
    WHERE a.message IS NOT NULL GROUP BY a.message;

DROP TABLE archive_text;
DROP TABLE archive_words;

-- From a message that was found to its owners' rows.
CREATE INDEX archive_message ON archive (message);

-- Made from message_text, later and many at once: those up to words_head are in it. Words are split before they come here.
CREATE VIRTUAL TABLE message_words USING fts5 (
    content, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars ':'"
);

CREATE TABLE words_head (
    up_to INTEGER NOT NULL
) STRICT;

INSERT INTO words_head (up_to) VALUES (0);
