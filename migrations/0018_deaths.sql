-- checkpoint_step at the last death of the server. crash_step was that, too, and the first crash of a child after a power cut was taken
-- for its second.
ALTER TABLE jobs ADD COLUMN death_step INTEGER;
