-- Data sets that were deleted and whose files may not be gone yet. A directory that no row names and that is not here was never meant
-- to go: an older database was put back, say.
CREATE TABLE removed_datasets (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
