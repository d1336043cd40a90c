-- The authorization server's tables. Times are Unix milliseconds; 0 is "never",
-- NULL is "not yet" where a single statement must tell the two apart.

CREATE TABLE users (
  id            TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  name_key      TEXT NOT NULL UNIQUE,
  display       TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  admin         BOOLEAN NOT NULL,
  disabled      BOOLEAN NOT NULL,
  created_ms    BIGINT NOT NULL
);

CREATE TABLE identities (
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  PRIMARY KEY (issuer, subject)
);

CREATE TABLE passkeys (
  id         BYTEA PRIMARY KEY,
  user_id    TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  label      TEXT NOT NULL,
  data       TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  used_ms    BIGINT NOT NULL
);
CREATE INDEX passkeys_user ON passkeys(user_id);

CREATE TABLE setups (
  hash       BYTEA PRIMARY KEY,
  user_id    TEXT NOT NULL,
  expires_ms BIGINT NOT NULL,
  used_ms    BIGINT
);

CREATE TABLE sessions (
  hash       BYTEA PRIMARY KEY,
  user_id    TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  method     TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  seen_ms    BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions(user_id);
CREATE INDEX sessions_expires ON sessions(expires_ms);

CREATE TABLE clients (
  id           TEXT PRIMARY KEY,
  kind         TEXT NOT NULL CHECK (kind IN ('pre', 'cimd', 'dcr')),
  metadata     TEXT NOT NULL,
  fingerprint  TEXT NOT NULL,
  secret_hash  BYTEA,
  shared       BOOLEAN NOT NULL,
  review       BOOLEAN NOT NULL,
  created_ms   BIGINT NOT NULL,
  consented_ms BIGINT,
  used_ms      BIGINT NOT NULL,
  expires_ms   BIGINT NOT NULL,
  fresh_ms     BIGINT NOT NULL
);
CREATE UNIQUE INDEX clients_pending ON clients(fingerprint) WHERE shared AND consented_ms IS NULL;
CREATE INDEX clients_expires ON clients(expires_ms) WHERE expires_ms > 0;
CREATE INDEX clients_unconsented ON clients(kind, expires_ms) WHERE consented_ms IS NULL;

CREATE TABLE client_tokens (
  hash      BYTEA PRIMARY KEY,
  client_id TEXT NOT NULL REFERENCES clients(id) ON DELETE CASCADE
);
CREATE INDEX client_tokens_client ON client_tokens(client_id);

CREATE TABLE hosts (
  host     TEXT PRIMARY KEY,
  loopback BOOLEAN NOT NULL,
  first_ms BIGINT NOT NULL,
  last_ms  BIGINT NOT NULL
);
CREATE INDEX hosts_first ON hosts(first_ms);

CREATE TABLE client_hosts (
  client_id TEXT NOT NULL,
  host      TEXT NOT NULL,
  PRIMARY KEY (client_id, host)
);
CREATE INDEX client_hosts_host ON client_hosts(host);

CREATE TABLE denies (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,
  pattern    TEXT NOT NULL,
  reason     TEXT NOT NULL,
  by_whom    TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  UNIQUE (kind, pattern)
);

CREATE TABLE grants (
  id            TEXT PRIMARY KEY,
  user_id       TEXT NOT NULL,
  client_id     TEXT NOT NULL,
  redirect_uri  TEXT NOT NULL,
  redirect_host TEXT NOT NULL,
  resource      TEXT NOT NULL,
  scopes        TEXT NOT NULL,
  dpop_key      TEXT NOT NULL,
  created_ms    BIGINT NOT NULL,
  used_ms       BIGINT NOT NULL,
  expires_ms    BIGINT NOT NULL,
  revoked_ms    BIGINT,
  reason        TEXT NOT NULL
);
CREATE INDEX grants_user ON grants(user_id) WHERE revoked_ms IS NULL;
CREATE INDEX grants_client ON grants(client_id) WHERE revoked_ms IS NULL;
CREATE INDEX grants_host ON grants(redirect_host);
CREATE INDEX grants_expires ON grants(expires_ms);

CREATE TABLE codes (
  hash         BYTEA PRIMARY KEY,
  grant_id     TEXT NOT NULL,
  user_id      TEXT NOT NULL,
  client_id    TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  resource     TEXT NOT NULL,
  scopes       TEXT NOT NULL,
  challenge    TEXT NOT NULL,
  dpop_key     TEXT NOT NULL,
  remember     BOOLEAN NOT NULL,
  auth_ms      BIGINT NOT NULL,
  created_ms   BIGINT NOT NULL,
  expires_ms   BIGINT NOT NULL,
  ends_ms      BIGINT NOT NULL,
  used_ms      BIGINT
);
CREATE INDEX codes_expires ON codes(expires_ms);
CREATE INDEX codes_client ON codes(client_id, created_ms);

CREATE TABLE refreshes (
  hash       BYTEA PRIMARY KEY,
  grant_id   TEXT NOT NULL REFERENCES grants(id) ON DELETE CASCADE,
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL,
  used_ms    BIGINT,
  successor  BYTEA
);
CREATE INDEX refreshes_grant ON refreshes(grant_id);
CREATE INDEX refreshes_expires ON refreshes(expires_ms);

CREATE TABLE revocations (
  id    TEXT PRIMARY KEY,
  at_ms BIGINT NOT NULL
);
CREATE INDEX revocations_at ON revocations(at_ms);

CREATE TABLE consents (
  user_id      TEXT NOT NULL,
  client_id    TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  resource     TEXT NOT NULL,
  scopes       TEXT NOT NULL,
  fingerprint  TEXT NOT NULL,
  created_ms   BIGINT NOT NULL,
  expires_ms   BIGINT NOT NULL,
  PRIMARY KEY (user_id, client_id, redirect_uri, resource)
);
CREATE INDEX consents_client ON consents(client_id);
CREATE INDEX consents_expires ON consents(expires_ms);

CREATE TABLE secrets (
  name   TEXT PRIMARY KEY,
  sealed BYTEA NOT NULL
);

CREATE TABLE signing_keys (
  kid        TEXT PRIMARY KEY,
  slot       TEXT NOT NULL UNIQUE,
  alg        TEXT NOT NULL,
  sealed     BYTEA NOT NULL,
  public_jwk TEXT NOT NULL,
  active_ms  BIGINT NOT NULL,
  retire_ms  BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL
);

CREATE TABLE once (
  id         TEXT PRIMARY KEY,
  expires_ms BIGINT NOT NULL
);
CREATE INDEX once_expires ON once(expires_ms);

CREATE TABLE limits (
  key    TEXT PRIMARY KEY,
  tat_us BIGINT NOT NULL
);
CREATE INDEX limits_tat ON limits(tat_us);

CREATE TABLE transactions (
  hash       BYTEA PRIMARY KEY,
  browser    BYTEA NOT NULL,
  data       BYTEA NOT NULL,
  expires_ms BIGINT NOT NULL,
  used_ms    BIGINT
);
CREATE INDEX transactions_expires ON transactions(expires_ms);

CREATE TABLE alerts (
  id      TEXT PRIMARY KEY,
  kind    TEXT NOT NULL,
  at_ms   BIGINT NOT NULL,
  subject TEXT NOT NULL,
  text    TEXT NOT NULL,
  do_text TEXT NOT NULL
);
CREATE INDEX alerts_at ON alerts(at_ms);
