-- A sweep: one request that queued many jobs. It has no state of its own; that follows from its jobs.
CREATE TABLE sweeps (
    id           TEXT PRIMARY KEY NOT NULL,
    dataset_id   TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    request      TEXT NOT NULL, -- JSON, as it was sent
    created_at   INTEGER NOT NULL
) STRICT;

ALTER TABLE jobs ADD COLUMN sweep_id TEXT REFERENCES sweeps (id);

-- The job that this one is the supervised baseline of. A plain value: it says "a baseline" even when that job is gone.
ALTER TABLE jobs ADD COLUMN baseline_of TEXT;

CREATE INDEX jobs_by_sweep ON jobs (sweep_id, id) WHERE sweep_id IS NOT NULL;
CREATE INDEX jobs_by_baseline ON jobs (baseline_of) WHERE baseline_of IS NOT NULL;
