-- Clients may wait for a person's approval, be shut out, and change their keys with each certificate.

ALTER TABLE tokens ADD COLUMN needs_approval INTEGER NOT NULL DEFAULT 0 CHECK (needs_approval IN (0, 1));
ALTER TABLE tokens ADD COLUMN is_ephemeral INTEGER NOT NULL DEFAULT 0 CHECK (is_ephemeral IN (0, 1));

ALTER TABLE clients ADD COLUMN state TEXT NOT NULL DEFAULT 'admitted' CHECK (state IN ('waiting', 'admitted', 'locked', 'quarantined'));
ALTER TABLE clients ADD COLUMN is_ephemeral INTEGER NOT NULL DEFAULT 0 CHECK (is_ephemeral IN (0, 1));
ALTER TABLE clients ADD COLUMN next_key BLOB CHECK (length(next_key) = 32);  -- of a renewal that has not been used yet
ALTER TABLE clients ADD COLUMN renewals INTEGER NOT NULL DEFAULT 0;          -- keys that took the place of an older one
ALTER TABLE clients ADD COLUMN rejections INTEGER NOT NULL DEFAULT 0;        -- rounds in a row in which its update was rejected
ALTER TABLE clients ADD COLUMN counted_round INTEGER NOT NULL DEFAULT 0;     -- the last round that is in that number
ALTER TABLE clients ADD COLUMN until INTEGER;                                -- end of the newest certificate

CREATE TABLE retired_keys (
    key     BLOB PRIMARY KEY CHECK (length(key) = 32),       -- SHA-256 of the public key
    client  TEXT NOT NULL,
    since   INTEGER NOT NULL,
    evicted TEXT                                             -- why, where its client was evicted; else a newer key took its place
) STRICT;

CREATE INDEX retired_keys_by_client ON retired_keys (client);

-- What was done and why, line by line; each names the digest of the one before it.

CREATE TABLE audit (
    seq  INTEGER PRIMARY KEY,                                -- from 1, without gaps
    line TEXT NOT NULL                                       -- JSON, as it was hashed
) STRICT;

PRAGMA user_version = 4;
