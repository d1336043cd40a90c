-- The vault's keys, sealed by a key management service: one row or none.
CREATE TABLE vault_ring (
  slot   BIGINT PRIMARY KEY CHECK (slot = 1),
  sealed BYTEA NOT NULL
);
