-- A list of versions says what each was trained by and with how many labels: a supervised baseline stands beside MixMatch's.
-- What older versions were trained with is known as long as their job is there.
ALTER TABLE model_versions ADD COLUMN algorithm TEXT;
ALTER TABLE model_versions ADD COLUMN labelled INTEGER;

UPDATE model_versions
SET algorithm = (SELECT config ->> '$.algorithm' FROM jobs WHERE jobs.id = model_versions.job_id),
    labelled = (SELECT config ->> '$.labelled' FROM jobs WHERE jobs.id = model_versions.job_id);
