-- Definitions of tools, prompts, resources and instructions as servers sent them,
-- each version by its hash, with what was decided about it.
CREATE TABLE pins (
  server     TEXT   NOT NULL,
  kind       TEXT   NOT NULL,
  name       TEXT   NOT NULL,
  sha256     TEXT   NOT NULL,
  raw        BYTEA  NOT NULL,
  state      TEXT   NOT NULL CHECK (state IN ('held', 'approved', 'rejected')),
  reason     TEXT   NOT NULL,
  first_ms   BIGINT NOT NULL,
  decided_ms BIGINT NOT NULL,
  decided_by TEXT   NOT NULL,
  PRIMARY KEY (server, kind, name, sha256)
);
