-- Rows that exist only for their debt; they are deleted once it is paid. Archived rows are not in it.
CREATE INDEX archive_unarchived ON archive (owner, pos) WHERE flags & 1 = 0;
