-- The gateway's audit log: one hash chain per process that writes.
CREATE TABLE journal (
  chain TEXT   NOT NULL,
  seq   BIGINT NOT NULL,
  at_ms BIGINT NOT NULL,
  prev  BYTEA  NOT NULL,
  hash  BYTEA  NOT NULL,
  body  TEXT   NOT NULL,
  PRIMARY KEY (chain, seq)
);
CREATE INDEX journal_at ON journal(at_ms);

-- Accounts at the servers behind the gateway; sealed by the vault.
CREATE TABLE accounts (
  user_id    TEXT   NOT NULL,
  server     TEXT   NOT NULL,
  issuer     TEXT   NOT NULL,
  sealed     BYTEA  NOT NULL,
  version    BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  PRIMARY KEY (user_id, server)
);
