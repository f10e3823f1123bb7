-- A job may be paused, and goes on from its last checkpoint.
--
-- SQLite cannot alter a CHECK, and to build the table anew would delete every event, metric and log line that hangs on
-- it (ON DELETE CASCADE cannot be switched off inside a transaction). No row changes its form, so that the text of the
-- table is what is altered, in the way that https://www.sqlite.org/lang_altertable.html#otheralter describes; the
-- ALTERs after it make every connection read the schema again.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, '''queued'', ''running'', ''succeeded''', '''queued'', ''running'', ''paused'', ''succeeded''')
WHERE type = 'table' AND name = 'jobs';
PRAGMA writable_schema = RESET;

-- A wish, like cancel_requested_at; once the job is paused, since when.
ALTER TABLE jobs ADD COLUMN pause_requested_at INTEGER;

-- Optimiser steps that the newest checkpoint holds, as far as the child told.
ALTER TABLE jobs ADD COLUMN checkpoint_step INTEGER;

-- checkpoint_step at the last crash: a crash after which it has not moved is not tried again by itself.
ALTER TABLE jobs ADD COLUMN crash_step INTEGER;

-- A resumed run tells its epochs again; this finds those that were told before.
CREATE INDEX job_events_epochs ON job_events (job_id) WHERE kind = 'epoch';
