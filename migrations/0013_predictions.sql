-- What a version answers to the images of its data set (predictions.csv). Versions that were published before have none.
ALTER TABLE model_versions ADD COLUMN predictions_sha256 TEXT;
