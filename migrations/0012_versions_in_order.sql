-- Lists of versions go by name and then newest first: in the primary key's order alone, a page sorted all versions of its
-- first name.
CREATE INDEX model_versions_newest ON model_versions (name, version DESC);
