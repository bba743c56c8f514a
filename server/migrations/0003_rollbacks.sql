-- A model may be an older one again, may have been measured by clients, and its files may be gone while its line stays.

ALTER TABLE models ADD COLUMN rollback TEXT;                 -- JSON: the older version, the reason, the authority's signature
ALTER TABLE models ADD COLUMN score TEXT;                    -- JSON: metric, goal, value
ALTER TABLE models ADD COLUMN removed INTEGER;               -- when

CREATE INDEX models_rolled_back ON models (version) WHERE rollback IS NOT NULL;

PRAGMA user_version = 3;
