-- Clients may come with certificates of a site's own authority: these have no token, and are shut out by name.

CREATE TABLE new_clients (
    id            TEXT PRIMARY KEY,
    key           BLOB NOT NULL CHECK (length(key) = 32),     -- SHA-256 of the public key
    next_key      BLOB CHECK (length(next_key) = 32),         -- of a renewal that has not been used yet
    enrolled      INTEGER NOT NULL,
    labels        TEXT NOT NULL,                              -- JSON
    token         TEXT REFERENCES tokens (id),                -- none: it came with a certificate of a site's own authority
    state         TEXT NOT NULL CHECK (state IN ('waiting', 'admitted', 'locked', 'quarantined', 'evicted')),
    is_ephemeral  INTEGER NOT NULL CHECK (is_ephemeral IN (0, 1)),
    renewals      INTEGER NOT NULL,                           -- keys that took the place of an older one
    rejections    INTEGER NOT NULL,                           -- rounds in a row in which its update was rejected
    counted_round INTEGER NOT NULL,                           -- the last round that is in that number
    until         INTEGER,                                    -- end of the newest certificate
    CHECK (state != 'evicted' OR token IS NULL)
) STRICT;

INSERT INTO new_clients
    (id, key, next_key, enrolled, labels, token, state, is_ephemeral, renewals, rejections, counted_round, until)
    SELECT id, key, next_key, enrolled, labels, token, state, is_ephemeral, renewals, rejections, counted_round, until FROM clients;
DROP TABLE clients;
ALTER TABLE new_clients RENAME TO clients;

PRAGMA user_version = 5;
