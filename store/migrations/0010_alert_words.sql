-- What an alert's sentences were made of, as JSON, so that pages can tell them in
-- another language; empty for alerts that were stored before.
ALTER TABLE alerts ADD COLUMN words TEXT NOT NULL DEFAULT '';
