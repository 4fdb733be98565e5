-- Roll-ups: what was charged, added up. A projection of the ledger's entries, kept in the transaction that writes
-- them; an empty one beside charges is made from the entries at the next start.
-- `day` counts days since 1970-01-01 in UTC. What is not known is the empty text. The keys begin with what reports
-- are asked by most often, so that their groups need not be sorted.
CREATE TABLE spend_days (
    day BIGINT NOT NULL,
    booked TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user_name TEXT NOT NULL,
    site TEXT NOT NULL,
    pool TEXT NOT NULL,
    provider TEXT NOT NULL,
    class TEXT NOT NULL,
    market TEXT NOT NULL,
    spend_micros BIGINT NOT NULL,
    overhead_micros BIGINT NOT NULL,
    egress_micros BIGINT NOT NULL,
    listed_micros BIGINT NOT NULL,
    list_micros BIGINT NOT NULL,
    gpu_ms BIGINT NOT NULL,
    slices BIGINT NOT NULL,
    PRIMARY KEY (day, group_name, site, booked, user_name, pool, provider, class, market)
);

-- The same by months: `day` is the first of each.
CREATE TABLE spend_months (
    day BIGINT NOT NULL,
    booked TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user_name TEXT NOT NULL,
    site TEXT NOT NULL,
    pool TEXT NOT NULL,
    provider TEXT NOT NULL,
    class TEXT NOT NULL,
    market TEXT NOT NULL,
    spend_micros BIGINT NOT NULL,
    overhead_micros BIGINT NOT NULL,
    egress_micros BIGINT NOT NULL,
    listed_micros BIGINT NOT NULL,
    list_micros BIGINT NOT NULL,
    gpu_ms BIGINT NOT NULL,
    slices BIGINT NOT NULL,
    PRIMARY KEY (day, group_name, site, booked, user_name, pool, provider, class, market)
);

-- What read a data set, by days. What read several is in each of them.
CREATE TABLE spend_datasets (
    dataset TEXT NOT NULL,
    day BIGINT NOT NULL,
    booked TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user_name TEXT NOT NULL,
    site TEXT NOT NULL,
    pool TEXT NOT NULL,
    provider TEXT NOT NULL,
    class TEXT NOT NULL,
    market TEXT NOT NULL,
    spend_micros BIGINT NOT NULL,
    overhead_micros BIGINT NOT NULL,
    egress_micros BIGINT NOT NULL,
    listed_micros BIGINT NOT NULL,
    list_micros BIGINT NOT NULL,
    gpu_ms BIGINT NOT NULL,
    slices BIGINT NOT NULL,
    PRIMARY KEY (day, dataset, group_name, site, booked, user_name, pool, provider, class, market)
);

-- What a charge adds to a roll-up, so that what lies between two midnights of UTC is added up from charges: when its
-- use began, who provides the machine, what of it has a list price, what that price comes to, and 1 for a slice, -1 for one that is taken back.
ALTER TABLE charges ADD COLUMN effective_ms BIGINT;
ALTER TABLE charges ADD COLUMN provider TEXT;
ALTER TABLE charges ADD COLUMN listed_micros BIGINT;
ALTER TABLE charges ADD COLUMN list_micros BIGINT;
ALTER TABLE charges ADD COLUMN slices BIGINT;
CREATE INDEX charges_by_time ON charges (effective_ms);
