-- What currencies are worth in dollars, one row for each: an object of days with the rate that is good from each on.
CREATE TABLE currencies (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);
