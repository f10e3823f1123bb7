-- Artifacts that are coming or going, and runs of deleted jobs: until that is done, they may be there without a row, and are litter then, as
-- the data sets of 0015 are. What is whole, has no row and is not here tells of a database that is older than the files. An earlier version's
-- litter is not here either: the first start of this one puts it into lost/, as nothing tells the one from the other.
CREATE TABLE passing_artifacts (
    sha256 TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE passing_runs (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO passing_runs (id) SELECT id FROM forgotten_jobs;

-- A whole data set that was coming may have got its row after this database was copied; one that was deleted never gets one again.
ALTER TABLE passing_datasets ADD COLUMN going INTEGER NOT NULL DEFAULT 0;
