-- The highest number of a model's versions when one of them was deleted: no number is given twice, because predictions,
-- jobs and people's notes name it.
CREATE TABLE model_numbers (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL CHECK (last > 0)
) STRICT;
