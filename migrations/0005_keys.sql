-- API keys: a public prefix to find one by, and the SHA-256 of all of it. The key itself is nowhere.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    prefix     TEXT NOT NULL UNIQUE,
    sha256     TEXT NOT NULL,
    scope      TEXT NOT NULL CHECK (scope IN ('predict', 'train', 'admin')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER, -- NULL: never
    revoked_at INTEGER
) STRICT;

-- A name stands for one key at a time, so that `keys revoke NAME` is clear; a revoked one gives it free.
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_at IS NULL;

-- Who changed what. A row is written before the change and completed after it: without a status, the answer
-- never went out (the server ended, or the caller went away).
CREATE TABLE audit (
    id         TEXT PRIMARY KEY NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL, -- 'POST /jobs/{id}/cancel', or a command
    target     TEXT NOT NULL, -- the path that was asked for, or the command's object
    created    TEXT,          -- where a new thing is
    request_id TEXT,
    status     INTEGER
) STRICT;

-- Which request made a data set, for as long as it may be repeated under the same key.
CREATE TABLE dataset_requests (
    idempotency_key TEXT PRIMARY KEY NOT NULL,
    request_sha256  TEXT NOT NULL,
    dataset_id      TEXT NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
