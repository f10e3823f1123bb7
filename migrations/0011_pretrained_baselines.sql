-- A supervised run did not pretrain, whatever its configuration said; now it does what that says. The queued ones are
-- baselines, which see no unlabelled image, and those that have ended had seen none.
UPDATE jobs
SET config = json_set(config, '$.pretrain_epochs', 0)
WHERE config ->> '$.algorithm' = 'supervised' AND config ->> '$.pretrain_epochs' > 0;
