-- Weights that a run may start from. The file is an artifact; jobs keep its hash in their configuration.
CREATE TABLE pretrained_weights (
    name          TEXT PRIMARY KEY NOT NULL,
    network       TEXT NOT NULL,
    classes       INTEGER CHECK (classes > 0), -- that its head answers; NULL where it has no head
    parameters    INTEGER NOT NULL,
    sha256        TEXT NOT NULL,
    source        TEXT NOT NULL,    -- the imported file's name
    source_sha256 TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
