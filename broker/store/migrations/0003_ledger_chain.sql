-- The chain over the ledger's entries: number, times, period and hash. NULL in a row that was written before there
-- was a chain; the next start links those, in the order of their journal numbers.
ALTER TABLE ledger_entries ADD COLUMN chain_seq BIGINT;
ALTER TABLE ledger_entries ADD COLUMN effective_ms BIGINT;
ALTER TABLE ledger_entries ADD COLUMN recorded_ms BIGINT;
ALTER TABLE ledger_entries ADD COLUMN booked TEXT;
ALTER TABLE ledger_entries ADD COLUMN hash TEXT;
CREATE UNIQUE INDEX ledger_entries_chain ON ledger_entries (chain_seq);

-- Periods that are closed, with what was frozen.
CREATE TABLE periods (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- The rate cards of pools, one row for each pool.
CREATE TABLE rate_cards (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);
