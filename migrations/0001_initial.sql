-- Times are unix milliseconds, ids are UUID v7 as text (so that ordering by id is ordering by age),
-- columns that hold JSON say so. State machines are held by CHECKs as well as by the code.

CREATE TABLE datasets (
    id           TEXT PRIMARY KEY NOT NULL,
    name         TEXT NOT NULL UNIQUE,
    task         TEXT NOT NULL,
    classes      TEXT NOT NULL, -- JSON array of names
    counts       TEXT NOT NULL, -- JSON
    report       TEXT NOT NULL, -- JSON
    content_hash TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;

-- A job keeps its data set's id and name as plain values: history stays readable when the set is deleted.
CREATE TABLE jobs (
    id                  TEXT PRIMARY KEY NOT NULL,
    dataset_id          TEXT NOT NULL,
    dataset_name        TEXT NOT NULL,
    model_name          TEXT NOT NULL, -- what it will publish under
    state               TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    priority            INTEGER NOT NULL DEFAULT 0,
    config              TEXT NOT NULL, -- JSON, fully resolved
    attempt             INTEGER NOT NULL DEFAULT 0,
    crashes             INTEGER NOT NULL DEFAULT 0,
    owner               TEXT,          -- boot id of the server that runs it
    device              TEXT,
    lease_expires_at    INTEGER,
    cancel_requested_at INTEGER,
    phase               TEXT,
    progress            TEXT,          -- JSON
    test                TEXT,          -- JSON
    model_version       INTEGER,
    error_code          TEXT,
    error_detail        TEXT,
    created_at          INTEGER NOT NULL,
    started_at          INTEGER,
    finished_at         INTEGER,
    idempotency_key     TEXT UNIQUE,
    request_sha256      TEXT,
    CHECK ((idempotency_key IS NULL) = (request_sha256 IS NULL)),
    CHECK ((state = 'running') = (owner IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CHECK ((state = 'succeeded') = (model_version IS NOT NULL)),
    CHECK ((state = 'failed') = (error_code IS NOT NULL))
) STRICT;

CREATE INDEX jobs_queue ON jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_dataset ON jobs (dataset_id);

CREATE TABLE job_phases (
    job_id  TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    phase   TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE INDEX job_phases_by_job ON job_phases (job_id);

CREATE TABLE job_events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id  TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    data    TEXT NOT NULL -- JSON
) STRICT;

CREATE INDEX job_events_by_job ON job_events (job_id, seq);
-- Only the newest step event of a job is kept; this finds the one before.
CREATE INDEX job_events_steps ON job_events (job_id) WHERE kind = 'step';

CREATE TABLE job_metrics (
    job_id              TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt             INTEGER NOT NULL,
    epoch               INTEGER NOT NULL,
    validation_accuracy REAL NOT NULL,
    validation_loss     REAL NOT NULL,
    metrics             TEXT NOT NULL, -- JSON, the whole row
    PRIMARY KEY (job_id, attempt, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_logs (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id  TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    level   TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX job_logs_by_job ON job_logs (job_id, seq);

CREATE TABLE model_versions (
    name            TEXT NOT NULL,
    version         INTEGER NOT NULL CHECK (version > 0),
    job_id          TEXT REFERENCES jobs (id) ON DELETE SET NULL,
    classes         TEXT NOT NULL, -- JSON array of names
    metrics         TEXT NOT NULL, -- JSON
    weights_sha256  TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

CREATE INDEX model_versions_by_job ON model_versions (job_id);

CREATE TABLE model_aliases (
    name       TEXT NOT NULL,
    alias      TEXT NOT NULL,
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version)
) STRICT;
