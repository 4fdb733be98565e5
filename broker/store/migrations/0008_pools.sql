-- What was used of pools of our own in each month, by class and group, and what was charged for it: what a close
-- accounts for. Months that are open are filled from the roll-ups.
CREATE TABLE pool_use (
    pool TEXT NOT NULL,
    booked TEXT NOT NULL,
    class TEXT NOT NULL,
    group_name TEXT NOT NULL,
    gpu_ms BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    PRIMARY KEY (pool, booked, class, group_name)
);
INSERT INTO pool_use (pool, booked, class, group_name, gpu_ms, micros)
    SELECT pool, booked, class, group_name, CAST(SUM(gpu_ms) AS BIGINT), CAST(SUM(spend_micros) AS BIGINT)
    FROM spend_months
    WHERE provider = 'on-prem' AND pool <> '' AND booked > (SELECT COALESCE(MAX(name), '') FROM periods)
    GROUP BY pool, booked, class, group_name;

-- How many accelerators each pool has and had: one row for each pool.
CREATE TABLE pool_capacity (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- The months of pools as they were closed: `name` is POOL/MONTH.
CREATE TABLE pool_months (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Accelerator time by weight, and what has a price on-prem with what that comes to. What was charged before weighs as
-- much as the reference, and has no such price; NULL in a charge says the same.
ALTER TABLE spend_days ADD COLUMN matched_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_days ADD COLUMN on_prem_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_days ADD COLUMN normalised_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_months ADD COLUMN matched_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_months ADD COLUMN on_prem_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_months ADD COLUMN normalised_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_datasets ADD COLUMN matched_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_datasets ADD COLUMN on_prem_micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spend_datasets ADD COLUMN normalised_ms BIGINT NOT NULL DEFAULT 0;
UPDATE spend_days SET normalised_ms = gpu_ms;
UPDATE spend_months SET normalised_ms = gpu_ms;
UPDATE spend_datasets SET normalised_ms = gpu_ms;
ALTER TABLE charges ADD COLUMN matched_micros BIGINT;
ALTER TABLE charges ADD COLUMN on_prem_micros BIGINT;
ALTER TABLE charges ADD COLUMN normalised_ms BIGINT;
