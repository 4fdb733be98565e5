-- A slice's key is unique among the slices of its instant, which is where the same slice would come again; other
-- entries, a few for each attempt, are at 0. So entries are written at two ends of the index, not all over it, whatever
-- the number of attempts that are charged at a time.
CREATE TABLE entries_by_time (
    entry_key TEXT NOT NULL,
    journal_seq BIGINT NOT NULL,
    attempt TEXT NOT NULL,
    body TEXT NOT NULL,
    chain_seq BIGINT,
    effective_ms BIGINT,
    recorded_ms BIGINT,
    booked TEXT,
    hash TEXT,
    slice_ms BIGINT NOT NULL DEFAULT 0
);
INSERT INTO entries_by_time (entry_key, journal_seq, attempt, body, chain_seq, effective_ms, recorded_ms, booked, hash)
    SELECT entry_key, journal_seq, attempt, body, chain_seq, effective_ms, recorded_ms, booked, hash
    FROM ledger_entries ORDER BY chain_seq;
DROP TABLE ledger_entries;
ALTER TABLE entries_by_time RENAME TO ledger_entries;
CREATE UNIQUE INDEX ledger_entries_chain ON ledger_entries (chain_seq);
CREATE UNIQUE INDEX ledger_entries_keys ON ledger_entries (slice_ms, entry_key);
CREATE INDEX ledger_entries_by_period ON ledger_entries (booked, chain_seq);
