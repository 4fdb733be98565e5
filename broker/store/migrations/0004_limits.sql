-- What groups may use, hold and have used: one row for each group, for each hold that is not settled, for each
-- transfer of budget, and one for the weights of accelerators.
CREATE TABLE limits (
    id TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);
