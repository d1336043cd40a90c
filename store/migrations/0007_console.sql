-- What the console lists: every list has an index in its own order, so that a
-- page costs the same at any depth.
CREATE INDEX clients_created ON clients(created_ms, id);
CREATE INDEX clients_kind ON clients(kind, created_ms, id);
CREATE INDEX clients_review ON clients(created_ms, id) WHERE review;
CREATE INDEX grants_created ON grants(created_ms, id);
CREATE INDEX grants_user_created ON grants(user_id, created_ms, id);
CREATE INDEX grants_client_created ON grants(client_id, created_ms, id);
DROP INDEX grants_host;
CREATE INDEX grants_host ON grants(redirect_host, user_id);
DROP INDEX hosts_first;
CREATE INDEX hosts_first ON hosts(first_ms, host);
DROP INDEX client_hosts_host;
CREATE INDEX client_hosts_host ON client_hosts(host, client_id);
DROP INDEX alerts_at;
CREATE INDEX alerts_at ON alerts(at_ms, id);

-- What an entry of the audit log is found by. The words are copies of what the
-- body says; the chain of hashes covers the body.
ALTER TABLE journal ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN server TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN decision TEXT NOT NULL DEFAULT '';
DROP INDEX journal_at;
CREATE INDEX journal_at ON journal(at_ms, chain, seq);
CREATE INDEX journal_request ON journal(request) WHERE request <> '';
CREATE INDEX journal_user ON journal(user_id, at_ms) WHERE user_id <> '';
CREATE INDEX journal_client ON journal(client_id, at_ms) WHERE client_id <> '';
CREATE INDEX journal_server ON journal(server, at_ms) WHERE server <> '';
CREATE INDEX journal_other ON journal(at_ms, chain, seq) WHERE decision NOT IN ('', 'allowed', 'ok');

-- Counters by minute and by hour, of the whole gateway (server '') and of each
-- server. lat0 … lat11 count calls by how long they took.
CREATE TABLE meters (
  width_s       BIGINT NOT NULL,
  server        TEXT   NOT NULL,
  at_ms         BIGINT NOT NULL,
  calls         BIGINT NOT NULL,
  refused       BIGINT NOT NULL,
  failed        BIGINT NOT NULL,
  registrations BIGINT NOT NULL,
  consents      BIGINT NOT NULL,
  logins        BIGINT NOT NULL,
  alerts        BIGINT NOT NULL,
  micros        BIGINT NOT NULL,
  lat0 BIGINT NOT NULL, lat1 BIGINT NOT NULL, lat2 BIGINT NOT NULL, lat3 BIGINT NOT NULL,
  lat4 BIGINT NOT NULL, lat5 BIGINT NOT NULL, lat6 BIGINT NOT NULL, lat7 BIGINT NOT NULL,
  lat8 BIGINT NOT NULL, lat9 BIGINT NOT NULL, lat10 BIGINT NOT NULL, lat11 BIGINT NOT NULL,
  PRIMARY KEY (width_s, server, at_ms)
);
CREATE INDEX meters_at ON meters(width_s, at_ms);

-- Domains of client documents that an administrator let in.
CREATE TABLE admitted (
  domain     TEXT PRIMARY KEY,
  by_whom    TEXT   NOT NULL,
  created_ms BIGINT NOT NULL
);
