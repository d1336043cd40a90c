-- Calls that wait, or waited, for a person. The binding is a hash over whom and
-- what exactly a decision is for; what it is about is sealed.
CREATE TABLE approvals (
  id         TEXT   PRIMARY KEY,
  binding    TEXT   NOT NULL UNIQUE,
  user_id    TEXT   NOT NULL,
  client_id  TEXT   NOT NULL,
  server     TEXT   NOT NULL,
  tool       TEXT   NOT NULL,
  sealed     TEXT   NOT NULL,
  state      TEXT   NOT NULL CHECK (state IN ('waiting', 'approved', 'refused', 'used')),
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL,
  decided_ms BIGINT NOT NULL,
  decided_by TEXT   NOT NULL
);
CREATE INDEX approvals_user ON approvals(user_id, state, created_ms);
CREATE INDEX approvals_expires ON approvals(expires_ms);

-- What a user's agent has read lately, for the barrier before ways out.
CREATE TABLE session_labels (
  session TEXT   NOT NULL,
  label   TEXT   NOT NULL,
  source  TEXT   NOT NULL,
  at_ms   BIGINT NOT NULL,
  PRIMARY KEY (session, label)
);
