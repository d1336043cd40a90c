-- The census. Addresses are bytes, so that both engines order them alike.

CREATE TABLE census_targets (
  run    TEXT NOT NULL,
  url    BYTEA NOT NULL,
  host   TEXT NOT NULL,
  source TEXT NOT NULL,
  spread BIGINT NOT NULL,
  result BYTEA,
  times  BYTEA,
  PRIMARY KEY (run, url)
);
CREATE INDEX census_pending ON census_targets(run, spread) WHERE result IS NULL;

CREATE TABLE census_turns (
  run     TEXT NOT NULL,
  host    TEXT NOT NULL,
  next_us BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  PRIMARY KEY (run, host)
);

-- What is known under a key; body is NULL while somebody is finding out.
CREATE TABLE census_known (
  run      TEXT NOT NULL,
  name     TEXT NOT NULL,
  body     BYTEA,
  until_us BIGINT NOT NULL,
  PRIMARY KEY (run, name)
);
