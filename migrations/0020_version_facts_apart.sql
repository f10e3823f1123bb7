-- What each prediction reads of its version, without the figures that lie among it in the table's rows: of a thousand classes those
-- are megabytes, and SQLite walks through all of them to reach what lies behind.
CREATE INDEX model_versions_facts ON model_versions
  (name, version, job_id, classes, weights_sha256, manifest_sha256, created_at, algorithm, labelled, predictions_sha256);
