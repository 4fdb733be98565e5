-- What was charged for: the entry behind each row, what was used, when, and at which price. NULL in a row that was
-- written before this was noted, and where it is not known. `booked` is `month` in the words of the ledger;
-- `datasets` are the job's inputs, in order, with a comma between two.
ALTER TABLE charges ADD COLUMN entry_key TEXT;
ALTER TABLE charges ADD COLUMN chain_seq BIGINT;
ALTER TABLE charges ADD COLUMN booked TEXT;
ALTER TABLE charges ADD COLUMN pool TEXT;
ALTER TABLE charges ADD COLUMN class TEXT;
ALTER TABLE charges ADD COLUMN resource TEXT;
ALTER TABLE charges ADD COLUMN cloud TEXT;
ALTER TABLE charges ADD COLUMN region TEXT;
ALTER TABLE charges ADD COLUMN market TEXT;
ALTER TABLE charges ADD COLUMN from_ms BIGINT;
ALTER TABLE charges ADD COLUMN to_ms BIGINT;
ALTER TABLE charges ADD COLUMN blocks BIGINT;
ALTER TABLE charges ADD COLUMN rate_micros BIGINT;
ALTER TABLE charges ADD COLUMN list_rate_micros BIGINT;
ALTER TABLE charges ADD COLUMN datasets TEXT;

-- A month's records in the order of the chain: what an export reads.
CREATE INDEX ledger_entries_by_period ON ledger_entries (booked, chain_seq);
