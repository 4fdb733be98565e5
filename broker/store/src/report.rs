//! Reports: what was charged, by what it was for and when, added up by the database.
//!
//! Whole months and days come from the roll-ups, the edges of what a time zone cuts otherwise from the charges; a
//! report by job is made of charges alone. One statement sees one moment.

use std::collections::BTreeMap;

use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::rollup::{Bucket, Grain, Measures, Piece, cover, month_of};
use spillway_types::{GroupName, UnixMs};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::sql::{Dialect, Value};
use crate::tables::MEASURES;
use crate::{Store, StoreError, rollup};

/// Between two values of a line, and after a line: no name has either.
const BETWEEN: char = '\t';
const AFTER: char = '\n';

/// By what a report adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportBy {
    /// The group that pays.
    Group,
    /// The user who submitted.
    User,
    /// Where it ran.
    Site,
    /// The pool; empty where that was not noted.
    Pool,
    /// The cloud, or [`spillway_ledger::rollup::Provider::ON_PREM`].
    Provider,
    /// The class of accelerators; empty where there were none, or where that was not noted.
    Class,
    /// How the machine was bought; empty where it was not, or where that was not noted.
    Market,
    /// The month into which it is booked.
    Booked,
    /// The job.
    Job,
    /// The data set. What read several is in the row of each, and what read none in no row.
    Dataset,
}

/// Which charges, and by what they are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportQuery {
    /// By what, in this order. Job and data set are not asked for together: no row is of both.
    pub by: Vec<ReportBy>,
    /// The stretches of time that have rows of their own. What lies in none of them is not in the report.
    pub buckets: Vec<Bucket>,
    /// Only what is booked into this month.
    pub booked: Option<Period>,
    /// Only of these groups; none means all.
    pub groups: Option<Vec<GroupName>>,
    /// Most rows that are read. A row of the report is read from three places at the most.
    pub limit: usize,
}

/// One row of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// Which of the buckets.
    pub bucket: usize,
    /// One for each key, in their order.
    pub keys: Vec<String>,
    /// The sums.
    pub measures: Measures,
}

/// From what a part of a report is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Months,
    Days,
    Datasets,
    Charges,
}

impl Source {
    const fn table(self) -> &'static str {
        match self {
            Self::Months => "spend_months",
            Self::Days => "spend_days",
            Self::Datasets => "spend_datasets",
            Self::Charges => "charges",
        }
    }

    /// The column that says when.
    const fn time(self) -> &'static str {
        match self {
            Self::Months | Self::Days | Self::Datasets => "day",
            Self::Charges => "effective_ms",
        }
    }

    const fn column(self, by: ReportBy) -> &'static str {
        match (by, self) {
            (ReportBy::Group, _) => "group_name",
            (ReportBy::User, _) => "user_name",
            (ReportBy::Site, _) => "site",
            (ReportBy::Booked, Self::Charges) => "month",
            (ReportBy::Booked, _) => "booked",
            (ReportBy::Pool, Self::Charges) => "COALESCE(pool, '')",
            (ReportBy::Pool, _) => "pool",
            (ReportBy::Provider, _) => "provider",
            (ReportBy::Class, Self::Charges) => "COALESCE(class, '')",
            (ReportBy::Class, _) => "class",
            (ReportBy::Market, Self::Charges) => "COALESCE(market, '')",
            (ReportBy::Market, _) => "market",
            (ReportBy::Job, _) => "job",
            (ReportBy::Dataset, Self::Charges) => "COALESCE(datasets, '')",
            (ReportBy::Dataset, _) => "dataset",
        }
    }

    /// What is summed, in the order of [`MEASURES`].
    const fn sums(self) -> [&'static str; MEASURES.len()] {
        match self {
            Self::Months | Self::Days | Self::Datasets => MEASURES,
            Self::Charges => [
                "spend_micros",
                "CASE WHEN kind IN ('overhead', 'pool-close') THEN spend_micros ELSE 0 END",
                "CASE WHEN kind = 'egress' THEN spend_micros ELSE 0 END",
                "listed_micros",
                "list_micros",
                "COALESCE(matched_micros, 0)",
                "COALESCE(on_prem_micros, 0)",
                "gpu_ms",
                "COALESCE(normalised_ms, gpu_ms)",
                "slices",
            ],
        }
    }
}

/// The pieces of every bucket by what answers for them.
fn sources(query: &ReportQuery) -> BTreeMap<Source, Vec<(usize, Piece)>> {
    let mut sources: BTreeMap<Source, Vec<(usize, Piece)>> = BTreeMap::new();
    for (number, bucket) in query.buckets.iter().enumerate() {
        if query.by.contains(&ReportBy::Job) {
            let piece = Piece { grain: Grain::Instant, from: bucket.from.0, to: bucket.to.0 };
            sources.entry(Source::Charges).or_default().push((number, piece));
            continue;
        }
        for piece in cover(bucket.from, bucket.to) {
            let source = match (piece.grain, query.by.contains(&ReportBy::Dataset)) {
                (Grain::Instant, _) => Source::Charges,
                (Grain::Month | Grain::Day, true) => Source::Datasets,
                (Grain::Month, false) => Source::Months,
                (Grain::Day, false) => Source::Days,
            };
            sources.entry(source).or_default().push((number, piece));
        }
    }
    sources
}

/// How the rows of one source say to which bucket they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// By its number.
    Number,
    /// By the day that they are of: each bucket has exactly one. The groups then come in the order of an index.
    Day(BTreeMap<i64, usize>),
}

/// One part of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    source: Source,
    pieces: Vec<(usize, Piece)>,
    place: Place,
}

impl Part {
    fn new(source: Source, pieces: Vec<(usize, Piece)>) -> Self {
        let ends = |piece: &Piece| match source {
            Source::Months => Some(month_of(Day::numbered(piece.from).plus(31)).number()),
            Source::Days => Some(piece.from + 1),
            Source::Datasets | Source::Charges => None,
        };
        let single = pieces.iter().all(|(_, piece)| ends(piece) == Some(piece.to));
        let unbroken =
            pieces.iter().zip(pieces.iter().skip(1)).all(|((_, one), (_, next))| one.to == next.from);
        let place = if single && unbroken {
            Place::Day(pieces.iter().map(|(bucket, piece)| (piece.from, *bucket)).collect())
        } else {
            Place::Number
        };
        Self { source, pieces, place }
    }

    /// The table of the stretches that it is joined with, where it is.
    fn stretches(&self) -> Option<String> {
        if self.place != Place::Number {
            return None;
        }
        let row = |(bucket, piece): &(usize, Piece)| format!("({bucket}, {}, {})", piece.from, piece.to);
        let rows: Vec<String> = self.pieces.iter().map(row).collect();
        Some(format!("at_{} (bucket, low, high) AS (VALUES {})", self.source.table(), rows.join(", ")))
    }

    /// One row for each place: the part's number, the place, and a line for each combination of keys with the keys and
    /// all sums. A row of the answer costs much more to bring over than a line of it to take apart.
    fn select(&self, number: usize, asked: &Conditions<'_>) -> String {
        let source = self.source;
        let (table, time) = (source.table(), source.time());
        let place = if self.place == Place::Number { "bucket" } else { time };
        let keys: Vec<&str> = asked.by.iter().map(|by| source.column(*by)).collect();
        let sums = source.sums().map(|sum| format!("CAST(SUM({sum}) AS TEXT)"));
        let values = keys.iter().map(|key| (*key).to_owned()).chain(sums);
        let line = values.collect::<Vec<_>>().join(&format!(" || '{BETWEEN}' || "));
        // SQLite keeps the order of a cross join: the few stretches first, then the rows of each by their index.
        let within = match self.place {
            Place::Number => format!("at_{table} CROSS JOIN {table} WHERE {time} >= low AND {time} < high"),
            Place::Day(_) => {
                let from = self.pieces.first().map_or(0, |(_, piece)| piece.from);
                let to = self.pieces.last().map_or(0, |(_, piece)| piece.to);
                format!("{table} WHERE {time} >= {from} AND {time} < {to}")
            }
        };
        let booked = asked.booked.map(|month| format!(" AND {} = {month}", source.column(ReportBy::Booked)));
        let (groups, booked) = (asked.groups, booked.unwrap_or_default());
        let by = [&[place], keys.as_slice()].concat().join(", ");
        let together = match asked.dialect {
            Dialect::Sqlite => "group_concat",
            Dialect::Postgres => "string_agg",
        };
        format!(
            "SELECT CAST({number} AS BIGINT), CAST(place AS BIGINT), {together}(line, '{AFTER}') FROM \
             (SELECT {place} AS place, {line} AS line FROM {within}{groups}{booked} GROUP BY {by} LIMIT {}) \
             AS part_{number} GROUP BY place",
            asked.limit.saturating_add(1)
        )
    }

    /// The bucket of a row with this place.
    fn bucket(&self, place: i64) -> Option<usize> {
        match &self.place {
            Place::Number => usize::try_from(place).ok(),
            Place::Day(buckets) => buckets.get(&place).copied(),
        }
    }
}

/// What all parts of a statement have in common.
struct Conditions<'a> {
    dialect: Dialect,
    by: &'a [ReportBy],
    groups: &'a str,
    booked: Option<&'a str>,
    limit: usize,
}

/// The parts of a report, and the statement with what it binds. None where there is nothing to ask.
fn statement(query: &ReportQuery, dialect: Dialect) -> Option<(Vec<Part>, String, Vec<Value>)> {
    let mut values: Vec<Value> = vec![];
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let booked = query.booked.map(|period| bind(period.to_string().into()));
    let mut groups = String::new();
    if let Some(only) = &query.groups {
        let only: Vec<String> = only.iter().map(|group| bind(group.as_str().into())).collect();
        groups = format!(" AND group_name IN ({})", only.join(", "));
    }
    let parts = sources(query).into_iter().map(|(source, pieces)| Part::new(source, pieces));
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() || query.groups.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let stretches: Vec<String> = parts.iter().filter_map(Part::stretches).collect();
    let with = if stretches.is_empty() { String::new() } else { format!("WITH {} ", stretches.join(", ")) };
    let (by, booked, limit) = (query.by.as_slice(), booked.as_deref(), query.limit);
    let asked = Conditions { dialect, by, groups: &groups, booked, limit };
    let selects: Vec<String> =
        parts.iter().enumerate().map(|(number, part)| part.select(number, &asked)).collect();
    Some((parts, format!("{with}{}", selects.join(" UNION ALL ")), values))
}

impl Store {
    /// The first instant of the first month of UTC in which anything was charged, and the end of the last one; none
    /// where nothing was.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn charged_time(&self) -> Result<Option<(UnixMs, UnixMs)>, StoreError> {
        let sql = "SELECT MIN(day), MAX(day) FROM spend_months";
        let rows = self.rows(sql.into_sql_str(), vec![]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let days = row.maybe_int(0).and_then(|first| Ok(first.zip(row.maybe_int(1)?)));
        let days = days.map_err(|error| self.inner.target.sqlx(error))?;
        let utc = Zone::utc();
        Ok(days.map(|(first, last)| {
            let end = Period::of(Day::numbered(last).start(), &utc).end(&utc);
            (Day::numbered(first).start(), end)
        }))
    }

    /// What was charged, row by row, in the order of bucket and keys; none where more rows than the limit were read.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn report(&self, query: &ReportQuery) -> Result<Option<Vec<ReportRow>>, StoreError> {
        let target = &self.inner.target;
        let dialect = self.inner.readers.dialect();
        let Some((parts, sql, values)) = statement(query, dialect) else { return Ok(Some(vec![])) };
        let dataset = query.by.iter().position(|by| *by == ReportBy::Dataset);
        let (mut sums, mut lines): (BTreeMap<(usize, Vec<String>), Measures>, usize) = (BTreeMap::new(), 0);
        for row in self.rows(AssertSqlSafe(sql).into_sql_str(), values).await? {
            let read = row.int(0).and_then(|part| Ok((part, row.int(1)?, row.text(2)?)));
            let (part, place, text) = read.map_err(|error| target.sqlx(error))?;
            let part = usize::try_from(part).ok().and_then(|part| parts.get(part));
            let bucket = part.and_then(|part| part.bucket(place));
            let bucket = bucket.ok_or_else(|| target.corrupt("a report has a row of no part of it"))?;
            for line in text.split(AFTER) {
                lines += 1;
                let (keys, measures) = read_line(line, query.by.len())
                    .ok_or_else(|| target.corrupt(format_args!("a report has the line `{line}`")))?;
                for keys in each_dataset(keys, dataset) {
                    *sums.entry((bucket, keys)).or_default() += measures;
                }
            }
        }
        if lines > query.limit {
            return Ok(None);
        }
        let row = |((bucket, keys), measures)| ReportRow { bucket, keys, measures };
        Ok(Some(sums.into_iter().map(row).collect()))
    }
}

/// The keys of a line, and its sums in the order of [`MEASURES`].
fn read_line(line: &str, keys: usize) -> Option<(Vec<String>, Measures)> {
    let mut words = line.split(BETWEEN);
    let keys: Vec<String> = words.by_ref().take(keys).map(str::to_owned).collect();
    let mut sums = [0; MEASURES.len()];
    for sum in &mut sums {
        *sum = words.next()?.parse().ok()?;
    }
    let measures = rollup::measures_of(sums);
    words.next().is_none().then_some((keys, measures))
}

/// A charge names all data sets that were read in one text, a roll-up has a row for each.
fn each_dataset(keys: Vec<String>, dataset: Option<usize>) -> Vec<Vec<String>> {
    let Some(place) = dataset else { return vec![keys] };
    let names = keys.get(place).cloned().unwrap_or_default();
    let with = |name: &str| {
        let mut keys = keys.clone();
        if let Some(key) = keys.get_mut(place) {
            name.clone_into(key);
        }
        keys
    };
    names.split(',').filter(|name| !name.is_empty()).map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_ledger::rollup::{Unit, buckets};

    fn asked(zone: &str, unit: Unit) -> ReportQuery {
        let at = |text: &str| spillway_ledger::calendar::parse_instant(text).unwrap();
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        let buckets = buckets(from, to, unit, &zone.parse().unwrap()).unwrap();
        ReportQuery { by: vec![ReportBy::Group], buckets, booked: None, groups: None, limit: 10 }
    }

    #[test]
    fn months_of_utc_are_read_as_they_are_stored() {
        let (parts, sql, values) = statement(&asked("UTC", Unit::Month), Dialect::Sqlite).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(
            sql.starts_with(
                "SELECT CAST(0 AS BIGINT), CAST(place AS BIGINT), group_concat(line, '\n') FROM "
            ),
            "{sql}"
        );
        let end = " FROM spend_months WHERE day >= 20454 AND day < 20513 GROUP BY day, group_name LIMIT 11) \
                   AS part_0 GROUP BY place";
        assert!(sql.ends_with(end), "{sql}");
        assert_eq!((parts[0].bucket(20485), parts[0].bucket(20486), values), (Some(1), None, vec![]));
        let (parts, sql, _) = statement(&asked("UTC", Unit::Day), Dialect::Sqlite).unwrap();
        assert!(
            parts.len() == 1 && sql.contains("FROM spend_days WHERE day >= 20454 AND day < 20513"),
            "{sql}"
        );
    }

    #[test]
    fn months_of_a_zone_are_days_and_edges() {
        let query =
            ReportQuery { groups: Some(vec!["a".parse().unwrap()]), ..asked("Asia/Seoul", Unit::Month) };
        let query = ReportQuery { booked: Some("2026-02".parse().unwrap()), ..query };
        let (parts, sql, values) = statement(&query, Dialect::Postgres).unwrap();
        assert_eq!(parts.iter().map(|part| part.source).collect::<Vec<_>>(), [Source::Days, Source::Charges]);
        assert!(sql.contains("at_charges (bucket, low, high) AS (VALUES "), "{sql}");
        assert!(sql.contains("effective_ms < high AND group_name IN ($2) AND month = $1 GROUP BY"), "{sql}");
        assert!(sql.contains("day < high AND group_name IN ($2) AND booked = $1 GROUP BY"), "{sql}");
        assert_eq!(values, [Value::from("2026-02"), Value::from("a")]);
        let nobody = ReportQuery { groups: Some(vec![]), ..asked("UTC", Unit::Month) };
        assert_eq!(statement(&nobody, Dialect::Sqlite), None);
    }
}
