-- Data sets that are coming or going: their files may be there without a row, and are litter then. What no row names and what is not
-- here tells of a database that is older than the files.
CREATE TABLE passing_datasets (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
