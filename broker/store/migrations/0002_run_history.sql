-- How long the newest runs of each kind took: one row for each kind, bounded by the broker.
CREATE TABLE run_history (
    kind TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);
