-- What an import found may be tens of megabytes, and every list and every look at a data set read all of it. The whole of
-- it has a table of its own now; the row keeps what is shown: how many rows were left out, the first hundred of them, and
-- the doubts.
CREATE TABLE dataset_reports (
    dataset_id TEXT PRIMARY KEY NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    report     TEXT NOT NULL -- JSON
) STRICT;

INSERT INTO dataset_reports (dataset_id, report) SELECT id, report FROM datasets;

UPDATE datasets
SET report = json_object(
    'rejected_rows', COALESCE(json_array_length(report, '$.rejected'), 0),
    'rejected', (SELECT json_group_array(json(value)) FROM json_each(report, '$.rejected') WHERE key < 100),
    'warnings', json(COALESCE(report -> '$.warnings', '[]'))
);
