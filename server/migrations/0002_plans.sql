-- The plans that rounds were and will be held by, as their file said it: each holds from its first round to the next one's.

CREATE TABLE plans (
    first_round INTEGER PRIMARY KEY,
    plan        TEXT NOT NULL                                -- TOML
) STRICT;

PRAGMA user_version = 2;
