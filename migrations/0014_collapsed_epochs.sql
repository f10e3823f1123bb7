-- Training never prefers an epoch whose answers leave a class out, however accurate: neither may what is shown as the best.
ALTER TABLE job_metrics ADD COLUMN collapsed INTEGER NOT NULL DEFAULT 0;
UPDATE job_metrics SET collapsed = 1 WHERE metrics LIKE '%"answers_collapsed"%';
DROP INDEX job_metrics_best;
CREATE INDEX job_metrics_best
    ON job_metrics (job_id, attempt, collapsed, validation_accuracy DESC, validation_loss, epoch);
