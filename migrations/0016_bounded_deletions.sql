-- Deletions look for what still needs a thing, and everybody who writes waits meanwhile: each of these questions has an index now,
-- which holds the unfinished jobs alone. Nobody else asked for the jobs of a data set.
DROP INDEX jobs_by_dataset;
CREATE INDEX jobs_unfinished_by_dataset ON jobs (dataset_id) WHERE state IN ('queued', 'running', 'paused');
CREATE INDEX jobs_unfinished_by_pretrained ON jobs (config ->> '$.pretrained')
    WHERE state IN ('queued', 'running', 'paused') AND config ->> '$.pretrained' IS NOT NULL;
CREATE INDEX jobs_unfinished_by_weights ON jobs (config ->> '$.pretrained_sha256')
    WHERE state IN ('queued', 'running', 'paused') AND config ->> '$.pretrained_sha256' IS NOT NULL;
CREATE INDEX model_versions_by_weights ON model_versions (weights_sha256);
CREATE INDEX model_versions_by_manifest ON model_versions (manifest_sha256);
CREATE INDEX model_versions_by_predictions ON model_versions (predictions_sha256) WHERE predictions_sha256 IS NOT NULL;
CREATE INDEX pretrained_weights_by_sha256 ON pretrained_weights (sha256);

-- A job's history may be a hundred thousand rows, and ON DELETE CASCADE took all of it along in one write. It goes in batches now,
-- after the job's row: so it refers to the job no more. The tables are not built anew, which would copy every history there is; the
-- text of the tables is altered instead, as in 0004, and the CREATEs after it make every connection read the schema again.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, ' REFERENCES jobs (id) ON DELETE CASCADE', '')
WHERE type = 'table' AND name IN ('job_phases', 'job_events', 'job_metrics', 'job_logs');
PRAGMA writable_schema = RESET;

-- Jobs that are deleted and whose history is not gone yet. A process that is killed in between leaves them to the next start.
CREATE TABLE forgotten_jobs (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- What a change was, where its path does not say it: 'mask@champion: 3 -> 4'.
ALTER TABLE audit ADD COLUMN detail TEXT;
