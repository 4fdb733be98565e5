//! The tables as they are written: which columns a row has, and which of them change when it is there already.

use std::fmt::Write as _;

use crate::sql::Dialect;

/// Most rows of one statement: enough that the way to the database is paid rarely, and far below both
/// databases' bounds on parameters (32,766 and 65,535) with the widest table.
pub(crate) const MAX_ROWS: usize = 128;

/// One way to write rows of a table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Name of this way of writing; two ways can share a table.
    pub(crate) id: &'static str,
    name: &'static str,
    /// All columns, the key first.
    columns: &'static [&'static str],
    /// How many of them are the key.
    keys: usize,
    /// What a row that is there takes from the new one; none means that it must not be there.
    updates: &'static [&'static str],
    /// What becomes of the columns in `updates`.
    update: Update,
}

/// What becomes of a column of a row that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    /// It takes the new row's value.
    Replace,
    /// The new row's value is added to it.
    Add,
}

impl Table {
    pub(crate) const fn width(&self) -> usize {
        self.columns.len()
    }

    /// The statement that writes `rows` rows.
    pub(crate) fn insert(&self, rows: usize, dialect: Dialect) -> String {
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", self.name, self.columns.join(", "));
        let mut number = 0;
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            number = placeholders(&mut sql, number, self.width(), dialect);
            sql.push(')');
        }
        if !self.updates.is_empty() {
            let key = self.columns.get(..self.keys).unwrap_or_default().join(", ");
            let update = |column: &&str| match self.update {
                Update::Replace => format!("{column} = excluded.{column}"),
                Update::Add => format!("{column} = {}.{column} + excluded.{column}", self.name),
            };
            let updates: Vec<String> = self.updates.iter().map(update).collect();
            sql.push_str(&format!(" ON CONFLICT ({key}) DO UPDATE SET {}", updates.join(", ")));
        }
        sql
    }

    /// The statement that deletes the rows of `rows` keys.
    pub(crate) fn delete(&self, rows: usize, dialect: Dialect) -> String {
        let key = self.columns.first().copied().unwrap_or_default();
        let mut sql = format!("DELETE FROM {} WHERE {key} IN (", self.name);
        placeholders(&mut sql, 0, rows, dialect);
        sql.push(')');
        sql
    }
}

/// Appends `count` placeholders, counting on from `number`. SQLite gets nameless ones: it looks named ones up one
/// by one for each that is bound.
fn placeholders(sql: &mut String, mut number: usize, count: usize, dialect: Dialect) -> usize {
    for place in 0..count {
        number += 1;
        let comma = if place == 0 { "" } else { ", " };
        match dialect {
            Dialect::Sqlite => write!(sql, "{comma}?"),
            Dialect::Postgres => write!(sql, "{comma}${number}"),
        }
        .expect("writing to a string does not fail");
    }
    number
}

macro_rules! tables {
    ($($(#[$doc:meta])* $id:ident = $name:literal ($($column:literal),+) updates ($($update:literal),*);)+) => {
        $($(#[$doc])*
        pub(crate) static $id: Table = Table {
            id: stringify!($id),
            name: $name,
            columns: &[$($column),+],
            keys: 1,
            updates: &[$($update),*],
            update: Update::Replace,
        };)+
    };
}

/// What roll-ups are by, after what is special to one of them. The order is that of [`MEASURES`] after [`DIMENSIONS`].
pub(crate) const DIMENSIONS: [&str; 9] =
    ["day", "booked", "group_name", "user_name", "site", "pool", "provider", "class", "market"];
/// What roll-ups sum.
pub(crate) const MEASURES: [&str; 10] = [
    "spend_micros",
    "overhead_micros",
    "egress_micros",
    "listed_micros",
    "list_micros",
    "matched_micros",
    "on_prem_micros",
    "gpu_ms",
    "normalised_ms",
    "slices",
];

macro_rules! rollups {
    ($($(#[$doc:meta])* $id:ident = $name:literal ($($own:literal),*);)+) => {
        $($(#[$doc])*
        pub(crate) static $id: Table = Table {
            id: stringify!($id),
            name: $name,
            columns: &[
                $($own,)* "day", "booked", "group_name", "user_name", "site", "pool", "provider", "class", "market",
                "spend_micros", "overhead_micros", "egress_micros", "listed_micros", "list_micros", "matched_micros",
                "on_prem_micros", "gpu_ms", "normalised_ms", "slices",
            ],
            keys: DIMENSIONS.len() $(+ { let _own = $own; 1 })*,
            updates: &MEASURES,
            update: Update::Add,
        };)+
    };
}

rollups! {
    SPEND_DAYS = "spend_days" ();
    // Its `day` is the first of its month.
    SPEND_MONTHS = "spend_months" ();
    SPEND_DATASETS = "spend_datasets" ("dataset");
}

tables! {
    META = "meta" ("name", "value") updates ("value");
    SITES = "sites" ("name", "body") updates ("body");
    POOLS = "pools" ("name", "body") updates ("body");
    TENANTS = "tenants" ("name", "overshoot_micros", "body") updates ("overshoot_micros", "body");
    USERS = "users" ("name", "body") updates ("body");
    TOKENS = "tokens" ("hash", "body") updates ("body");
    JOIN_TOKENS = "join_tokens" ("hash", "body") updates ("body");
    // What is alive never updates `alive`, so that the index of what is alive is written at birth and at the end.
    NODES = "nodes" ("id", "alive", "body") updates ("body");
    ENDED_NODES = "nodes" ("id", "alive", "body") updates ("alive", "body");
    INSTANCES = "instances" ("id", "alive", "body") updates ("body");
    ENDED_INSTANCES = "instances" ("id", "alive", "body") updates ("alive", "body");
    JOBS = "jobs"
        ("id", "alive", "state", "group_name", "user_name", "name", "submitted_ms", "ended_ms", "body")
        updates ("state", "ended_ms", "body");
    ENDED_JOBS = "jobs"
        ("id", "alive", "state", "group_name", "user_name", "name", "submitted_ms", "ended_ms", "body")
        updates ("alive", "state", "ended_ms", "body");
    ATTEMPTS = "attempts" ("id", "alive", "job", "body") updates ("body");
    ENDED_ATTEMPTS = "attempts" ("id", "alive", "job", "body") updates ("alive", "body");
    SUBMISSIONS = "submissions" ("submission", "body") updates ("body");
    RUN_HISTORY = "run_history" ("kind", "body") updates ("body");
    LIMITS = "limits" ("id", "body") updates ("body");
    JOURNAL = "journal" ("seq", "at_ms", "body") updates ();
    LEDGER_ENTRIES = "ledger_entries"
        ("entry_key", "journal_seq", "attempt", "body", "chain_seq", "effective_ms", "recorded_ms", "booked", "hash",
         "slice_ms")
        updates ();
    PERIODS = "periods" ("name", "body") updates ("body");
    SITE_USAGE = "site_usage" ("name", "body") updates ("body");
    SITE_MANIFESTS = "site_manifests" ("name", "period", "body") updates ();
    RATE_CARDS = "rate_cards" ("name", "body") updates ("body");
    CURRENCIES = "currencies" ("name", "body") updates ("body");
    POOL_CAPACITY = "pool_capacity" ("name", "body") updates ("body");
    POOL_MONTHS = "pool_months" ("name", "body") updates ("body");
    POSTINGS = "postings" ("journal_seq", "account", "micros") updates ();
    CHARGES = "charges"
        ("journal_seq", "at_ms", "month", "kind", "group_name", "user_name", "site", "payee", "job", "attempt",
         "instance", "gpu_ms", "spend_micros", "entry_key", "chain_seq", "booked", "pool", "class", "resource", "cloud",
         "region", "market", "from_ms", "to_ms", "blocks", "rate_micros", "list_rate_micros", "datasets", "effective_ms",
         "provider", "listed_micros", "list_micros", "slices", "matched_micros", "on_prem_micros", "normalised_ms")
        updates ();
    BALANCES = "balances" ("account", "micros") updates ("micros");
}

/// What was used of a pool: its key has four columns.
pub(crate) static POOL_USE: Table = Table {
    id: "POOL_USE",
    name: "pool_use",
    columns: &["pool", "booked", "class", "group_name", "gpu_ms", "micros"],
    keys: 4,
    updates: &["gpu_ms", "micros"],
    update: Update::Replace,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_portable() {
        assert_eq!(
            META.insert(2, Dialect::Sqlite),
            "INSERT INTO meta (name, value) VALUES (?, ?), (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        );
        assert_eq!(
            JOURNAL.insert(2, Dialect::Postgres),
            "INSERT INTO journal (seq, at_ms, body) VALUES ($1, $2, $3), ($4, $5, $6)"
        );
        let added = SPEND_DATASETS.insert(1, Dialect::Sqlite);
        assert!(
            added.contains(
                "ON CONFLICT (dataset, day, booked, group_name, user_name, site, pool, provider, class, market) \
                 DO UPDATE SET spend_micros = spend_datasets.spend_micros + excluded.spend_micros, "
            ),
            "{added}"
        );
        assert_eq!(SPEND_DAYS.columns, [&DIMENSIONS[..], &MEASURES[..]].concat());
        assert_eq!(SITES.delete(2, Dialect::Postgres), "DELETE FROM sites WHERE name IN ($1, $2)");
        let widest = CHARGES.width() * MAX_ROWS;
        assert!(widest < 32_766, "{widest}");
    }
}
