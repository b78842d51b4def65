-- What full text finds of a message, once for all its owners: a word `:N` for each of them, and its text's words.
CREATE TABLE message_text (
    message bigint PRIMARY KEY,
    content text NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (array_to_tsvector(string_to_array(content, ' '))) STORED
);

INSERT INTO message_text (message, content)
    SELECT a.message, string_agg(':' || a.owner, ' ') || ' ' || min(t.content)
    FROM archive_text t JOIN archive a ON a.owner = t.owner AND a.pos = t.pos
    WHERE a.message IS NOT NULL GROUP BY a.message;

DROP TABLE archive_text;

CREATE INDEX message_words ON message_text USING gin (words);

-- From a message that was found to its owners' rows.
CREATE INDEX archive_message ON archive (message);
