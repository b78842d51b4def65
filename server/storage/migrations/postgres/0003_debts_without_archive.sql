-- Rows that exist only for their debt; they are deleted once it is paid. Archived rows are not in it.
CREATE INDEX archive_unarchived ON archive (owner, pos) WHERE flags & 1 = 0;

-- What a copy or a restore brings has month 0. In the default partitions it would be read whenever a month's partition is
-- made, with the table locked.
CREATE TABLE message_copied (LIKE message);
WITH moved AS (DELETE FROM message_default WHERE month = 0 RETURNING *) INSERT INTO message_copied SELECT * FROM moved;
ALTER TABLE message ATTACH PARTITION message_copied FOR VALUES FROM (0) TO (1);

CREATE TABLE archive_copied (LIKE archive);
WITH moved AS (DELETE FROM archive_default WHERE month = 0 RETURNING *) INSERT INTO archive_copied SELECT * FROM moved;
ALTER TABLE archive ATTACH PARTITION archive_copied FOR VALUES FROM (0) TO (1);
