-- Training never prefers an epoch whose answers leave a class out, however accurate: neither may what is shown as the best.
ALTER TABLE job_metrics ADD COLUMN collapsed INTEGER NOT NULL DEFAULT 0;

-- Older runs have but the warning, which is judged by the labels' shares; the epoch that was published was none.
UPDATE job_metrics SET collapsed = 1, metrics = json_set(metrics, '$.validation_collapsed', json('true'))
WHERE metrics LIKE '%"answers_collapsed"%'
  AND epoch IS NOT (SELECT j.test ->> '$.best_epoch' FROM jobs j WHERE j.id = job_metrics.job_id AND j.attempt = job_metrics.attempt);

DROP INDEX job_metrics_best;
CREATE INDEX job_metrics_best
    ON job_metrics (job_id, attempt, collapsed, validation_accuracy DESC, validation_loss, epoch);
