-- How long a job was worked on in all attempts that have ended: started_at is the last one's, and each is told anew.
ALTER TABLE jobs ADD COLUMN worked_ms INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET worked_ms = MAX(0, finished_at - started_at)
WHERE state IN ('succeeded', 'failed') AND started_at IS NOT NULL;

-- Their checkpoints went with the run: there is no step to go on from.
UPDATE jobs SET checkpoint_step = NULL
WHERE state = 'succeeded' OR error_code IN ('diverged', 'collapsed');
