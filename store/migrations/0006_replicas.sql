-- What processes on one database know of each other: who lives, who holds which
-- relationship with a server, letters too long for a notification, and notes
-- about sessions.
CREATE TABLE replicas (
  name TEXT   NOT NULL PRIMARY KEY,
  beat BIGINT NOT NULL
);
CREATE TABLE claims (
  key    TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL
);
CREATE INDEX claims_holder ON claims(holder);
CREATE TABLE letters (
  id    TEXT   NOT NULL PRIMARY KEY,
  body  BYTEA  NOT NULL,
  at_ms BIGINT NOT NULL
);
CREATE TABLE notes (
  key        TEXT   NOT NULL PRIMARY KEY,
  value      TEXT   NOT NULL,
  expires_ms BIGINT NOT NULL
);
CREATE INDEX notes_expire ON notes(expires_ms);
