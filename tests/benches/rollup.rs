//! A report by group, site and month over 24 months of a large federation, on SQLite, as the number of slices grows:
//! from the roll-ups, from the charges alone, in another time zone, and of one group.
//!
//! 200 groups of five users each run jobs of 40 slices on 20 sites, each group on four of them. The charges are made
//! by one statement and the roll-ups from them by two more: the journal itself, which no report reads, is left out,
//! because writing ten million entries one after the other takes longer than everything that is measured here. That
//! the roll-ups come to what the charges come to is checked before anything is timed.

use anyhow::{Context as _, Result, ensure};
use spillway_ledger::calendar::Zone;
use spillway_ledger::rollup::{Bucket, Measures, Unit, buckets};
use spillway_store::{ReportBy, ReportQuery, ReportRow, SpendBy, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection};
use xtask::wait::Stopwatch;

use crate::Settings;
use crate::clock::median;
use crate::report::{Measurement, Peer};

/// 2024-03-01T00:00:00Z, and two years.
const START_MS: i64 = 1_709_251_200_000;
const SPAN_MS: i64 = 730 * 86_400_000;
const SLICES_OF_A_JOB: i64 = 40;
/// A slice covers a quarter of an hour, so that a job takes ten hours and often goes over midnight.
const SLICE_MS: i64 = 900_000;
const RUNS: usize = 5;

/// Measures all sizes.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let sizes: &[i64] = if settings.quick { &[100_000] } else { &[100_000, 1_000_000, 10_000_000] };
    let mut measured = vec![];
    for slices in sizes {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rollup.db");
        measured.extend(runtime.block_on(measure(&path, *slices))?);
    }
    Ok(measured)
}

async fn measure(path: &std::path::Path, slices: i64) -> Result<Vec<Measurement>> {
    let url = format!("sqlite:{}", path.display());
    // The store makes the tables.
    Store::open(&url).await?.close().await?;
    let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
    let mut connection = options.synchronous(SqliteSynchronous::Off).connect().await?;
    fill(&mut connection, slices).await?;
    let rows = count(&mut connection).await?;
    connection.close().await?;
    let store = Store::open(&url).await?;
    let measured = reports(&store, slices, rows).await;
    store.close().await?;
    measured
}

async fn execute(connection: &mut SqliteConnection, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql).into_sql_str()).execute(connection).await?;
    Ok(())
}

/// Whole numbers that are spread by their hash: the same in every run.
fn spread(of: &str, by: i64, over: i64) -> String {
    format!("((({of}) * {by} + 12345) % 1000003 % {over})")
}

async fn fill(connection: &mut SqliteConnection, slices: i64) -> Result<()> {
    let (user, market) = (spread("job", 7919, 5), spread("job", 6007, 3));
    let (group, place) = (spread("job", 104_729, 200), spread("job", 3571, 4));
    let apart = SPAN_MS / (slices / SLICES_OF_A_JOB);
    let charges = format!(
        "INSERT INTO charges (journal_seq, at_ms, month, kind, group_name, user_name, site, payee, job, attempt, \
             gpu_ms, spend_micros, pool, cloud, class, market, effective_ms, listed_micros, list_micros, slices, \
             matched_micros, on_prem_micros, normalised_ms) \
         WITH RECURSIVE numbers (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < {slices} - 1), \
         jobs AS (SELECT number, number / {SLICES_OF_A_JOB} AS job, number % {SLICES_OF_A_JOB} AS slice FROM numbers), \
         placed AS (SELECT number, job, {group} AS grp, {user} AS usr, ({group} * 7 + {place} * 5) % 20 AS site, \
             {market} AS market, {START_MS} + job * {apart} + slice * {SLICE_MS} AS at FROM jobs) \
         SELECT number + 1, at, strftime('%Y-%m', at / 1000, 'unixepoch'), 'charge', \
             printf('group-%03d', grp), printf('user-%03d-%d', grp, usr), printf('site-%02d', site), \
             printf('payable:cloud-%d:site-%02d', site % 3, site), printf('job_%032x', job), printf('att_%032x', job), \
             8 * {SLICE_MS}, 4980000 + market, printf('pool-%02d', site), printf('cloud-%d', site % 3), \
             CASE site % 3 WHEN 0 THEN 'H100' WHEN 1 THEN 'A100' ELSE 'L40S' END, \
             CASE market WHEN 0 THEN 'spot' ELSE 'on-demand' END, at, 4980000 + market, 9960000, 1, \
             4980000 + market, 3500000, 20 * {SLICE_MS} FROM placed"
    );
    execute(connection, charges).await?;
    let sums = "SUM(spend_micros), 0, 0, SUM(listed_micros), SUM(list_micros), SUM(gpu_ms), SUM(slices), \
                SUM(matched_micros), SUM(on_prem_micros), SUM(normalised_ms)";
    let by = "month, group_name, user_name, site, pool, cloud, class, market";
    execute(connection, format!("INSERT INTO spend_days SELECT effective_ms / 86400000, {by}, {sums} FROM charges GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9")).await?;
    let first = "CAST(strftime('%s', day * 86400, 'unixepoch', 'start of month') AS INTEGER) / 86400";
    let by = by.replace("month", "booked").replace("cloud", "provider");
    execute(connection, format!("INSERT INTO spend_months SELECT {first}, {by}, {sums} FROM spend_days GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9")).await
}

/// Rows of charges, days and months.
async fn count(connection: &mut SqliteConnection) -> Result<[i64; 3]> {
    let mut counts = [0; 3];
    for (count, table) in counts.iter_mut().zip(["charges", "spend_days", "spend_months"]) {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")).into_sql_str();
        *count = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
    }
    Ok(counts)
}

fn query(buckets: Vec<Bucket>) -> ReportQuery {
    let by = vec![ReportBy::Group, ReportBy::Site];
    ReportQuery { by, buckets, booked: None, groups: None, limit: 300_000 }
}

/// The median time of a report in milliseconds, and its rows.
async fn time(store: &Store, query: &ReportQuery) -> Result<(f64, Vec<ReportRow>)> {
    let (mut times, mut rows) = (Vec::with_capacity(RUNS), vec![]);
    for _ in 0..RUNS {
        let watch = Stopwatch::start();
        rows = store.report(query).await?.context("it is within its limit")?;
        times.push(watch.elapsed().as_secs_f64() * 1000.0);
    }
    Ok((median(&mut times), rows))
}

async fn reports(store: &Store, slices: i64, [charges, days, months]: [i64; 3]) -> Result<Vec<Measurement>> {
    let (from, to) = store.charged_time().await?.context("something was charged")?;
    let stretches =
        |zone: &str| -> Result<Vec<Bucket>> { Ok(buckets(from, to, Unit::Month, &zone.parse::<Zone>()?)?) };
    let watch = Stopwatch::start();
    let added = store.spend(&[SpendBy::Group, SpendBy::Site, SpendBy::Month]).await?;
    let by_charges = watch.elapsed().as_secs_f64() * 1000.0;
    let spent: i64 = added.iter().map(|row| row.micros).sum();
    let (whole, rows) = time(store, &query(stretches("UTC")?)).await?;
    let total = |rows: &[ReportRow]| rows.iter().map(|row| row.measures).sum::<Measures>();
    ensure!(
        charges == slices && rows.len() == added.len(),
        "the report has a row for each sum of the charges"
    );
    ensure!(total(&rows).spend_micros == i128::from(spent), "roll-ups and charges come to the same");
    let (zoned, in_seoul) = time(store, &query(stretches("Asia/Seoul")?)).await?;
    ensure!(total(&in_seoul) == total(&rows), "a zone changes the buckets and nothing else");
    let group = vec!["group-017".parse()?];
    let (own, _) = time(store, &ReportQuery { groups: Some(group), ..query(stretches("UTC")?) }).await?;
    let of = format!("{slices} slices ({days} daily and {months} monthly rows)");
    let one = |what: &str, value, peer| Measurement {
        metric: format!("{what}, {of}").into(),
        value,
        unit: "ms",
        peer,
    };
    let peer = Peer { name: "the charges added up, once".to_owned(), value: by_charges };
    Ok(vec![
        one("report by group, site and month", whole, Some(peer)),
        one("the same in months of Asia/Seoul", zoned, None),
        one("the same of one group", own, None),
    ])
}
