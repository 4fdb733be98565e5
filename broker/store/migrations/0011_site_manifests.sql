-- What is known of each site's usage events beside its nodes: those of nodes that have left, and how many there were
-- when a period was last closed.
CREATE TABLE site_usage (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

-- What was here of each site's usage when a period was closed: `2026-03/seoul`. A row is never changed.
CREATE TABLE site_manifests (
    name TEXT PRIMARY KEY,
    period TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX site_manifests_by_period ON site_manifests (period);
