-- Times are milliseconds since the Unix epoch. Digests and names are text as people see them.

CREATE TABLE coordinator (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    record   TEXT NOT NULL                                   -- JSON, with a version of its own
) STRICT;

CREATE TABLE rounds (
    round   INTEGER PRIMARY KEY,
    summary TEXT NOT NULL                                    -- JSON
) STRICT;

CREATE TABLE merges (
    round      INTEGER PRIMARY KEY,
    candidate  TEXT NOT NULL,                                -- JSON
    elapsed_ms INTEGER NOT NULL,
    report     TEXT NOT NULL                                 -- JSON
) STRICT;

CREATE TABLE models (
    version    INTEGER PRIMARY KEY,
    digest     TEXT NOT NULL,                                -- not unique: a merge may change nothing
    size_bytes INTEGER NOT NULL,
    parent     TEXT,
    round      INTEGER,
    published  INTEGER NOT NULL
) STRICT;

CREATE INDEX models_by_digest ON models (digest);

CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
    uses        INTEGER NOT NULL CHECK (uses >= 0),
    used        INTEGER NOT NULL CHECK (used BETWEEN 0 AND uses),
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    is_revoked  INTEGER NOT NULL CHECK (is_revoked IN (0, 1)),
    labels      TEXT NOT NULL                                -- JSON
) STRICT;

CREATE TABLE clients (
    id       TEXT PRIMARY KEY,
    key      BLOB NOT NULL CHECK (length(key) = 32),         -- SHA-256 of the public key
    enrolled INTEGER NOT NULL,
    labels   TEXT NOT NULL,                                  -- JSON
    token    TEXT NOT NULL REFERENCES tokens (id)
) STRICT;

CREATE TABLE uploads (
    id     TEXT PRIMARY KEY,
    client TEXT NOT NULL UNIQUE,
    round  INTEGER NOT NULL,
    header TEXT NOT NULL,                                    -- JSON, metrics as exact text
    begun  INTEGER NOT NULL
) STRICT;

CREATE INDEX uploads_by_round ON uploads (round);

PRAGMA application_id = 1718448743;
PRAGMA user_version = 1;
