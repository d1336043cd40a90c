-- What identity providers said of people, see authserver's heard.go: the groups as a
-- JSON list and when they were heard; when the login ended there, and why. Who logged
-- in at a provider before this was kept has a row in which nothing was heard yet.
CREATE TABLE heard (
  user_id     TEXT PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
  provider    TEXT NOT NULL,
  issuer      TEXT NOT NULL,
  claim       TEXT NOT NULL,
  group_names TEXT NOT NULL,
  heard_ms    BIGINT NOT NULL,
  ended_ms    BIGINT NOT NULL,
  why         TEXT NOT NULL,
  version     BIGINT NOT NULL
);
INSERT INTO heard(user_id, provider, issuer, claim, group_names, heard_ms, ended_ms, why, version)
  SELECT user_id, '', MIN(issuer), '', '[]', 0, 0, '', 1 FROM identities GROUP BY user_id;
