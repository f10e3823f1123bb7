-- Reading a job shows its best epoch: without this, every look at a job sorted all of its epochs.
CREATE INDEX job_metrics_best
    ON job_metrics (job_id, attempt, validation_accuracy DESC, validation_loss, epoch);

-- Each epoch asks whether it was told before: without the number in the index, it read all the earlier ones.
DROP INDEX job_events_epochs;
CREATE INDEX job_events_epochs ON job_events (job_id, data ->> '$.epoch') WHERE kind = 'epoch';
