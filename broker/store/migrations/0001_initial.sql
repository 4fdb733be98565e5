-- One schema for SQLite and PostgreSQL: BIGINT and TEXT only, no defaults, no functions.
-- `body` is the JSON of the entity; the other columns exist because a query needs them.
-- `alive` is 1 while the entity is in the broker's memory, 0 once it left it; it never returns.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE sites (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE pools (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Groups; `groups` is a keyword. No overshoot is NULL, which is not the same as an overshoot of 0.
CREATE TABLE tenants (
    name TEXT NOT NULL PRIMARY KEY,
    overshoot_micros BIGINT,
    body TEXT NOT NULL
);

CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE join_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    alive BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX nodes_alive ON nodes (id) WHERE alive = 1;

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    alive BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX instances_alive ON instances (id) WHERE alive = 1;

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    alive BIGINT NOT NULL,
    state TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user_name TEXT NOT NULL,
    name TEXT NOT NULL,
    submitted_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    body TEXT NOT NULL
);
CREATE INDEX jobs_alive ON jobs (id) WHERE alive = 1;
CREATE INDEX jobs_by_group ON jobs (group_name, id);

CREATE TABLE attempts (
    id TEXT NOT NULL PRIMARY KEY,
    alive BIGINT NOT NULL,
    job TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX attempts_alive ON attempts (id) WHERE alive = 1;
CREATE INDEX attempts_by_job ON attempts (job, id);

CREATE TABLE submissions (
    submission TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE journal (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    body TEXT NOT NULL
);

-- That an entry is posted once is this table's key.
CREATE TABLE ledger_entries (
    entry_key TEXT NOT NULL PRIMARY KEY,
    journal_seq BIGINT NOT NULL,
    attempt TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX ledger_entries_by_attempt ON ledger_entries (attempt);

-- The amounts of the entries, one row for each: what the auditor adds up.
CREATE TABLE postings (
    journal_seq BIGINT NOT NULL,
    account TEXT NOT NULL,
    micros BIGINT NOT NULL
);

-- The entries that are spend, in narrow rows for reports.
CREATE TABLE charges (
    journal_seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    month TEXT NOT NULL,
    kind TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user_name TEXT NOT NULL,
    site TEXT NOT NULL,
    payee TEXT NOT NULL,
    job TEXT NOT NULL,
    attempt TEXT NOT NULL,
    instance TEXT,
    gpu_ms BIGINT NOT NULL,
    spend_micros BIGINT NOT NULL
);

CREATE TABLE balances (
    account TEXT NOT NULL PRIMARY KEY,
    micros BIGINT NOT NULL
);
