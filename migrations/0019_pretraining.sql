-- How far contrastive pretraining is (JSON): its steps are its own and none of the run's (`progress`).
ALTER TABLE jobs ADD COLUMN pretraining TEXT;
-- Only the newest such event of a job is kept, as of its steps.
CREATE INDEX job_events_pretraining ON job_events (job_id) WHERE kind = 'pretraining';
