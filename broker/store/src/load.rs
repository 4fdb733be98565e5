//! The state from its rows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_core::State;
use spillway_core::entity::Group;
use spillway_core::history::{History, Runs};
use spillway_core::pools::{PoolBooks, PoolClosed, UseKey, Used};
use spillway_ledger::journal::Periods;
use spillway_ledger::limits::{LimitRow, Limits};
use spillway_ledger::rates::{CurrencyTable, RateBook};
use spillway_ledger::{Account, Book, Limit};
use spillway_types::GroupName;

use crate::StoreError;
use crate::sql::Row;
use crate::target::Target;
use crate::write::Writer;

/// Reads everything that is alive. The writer is ours meanwhile, so all of it is of one moment.
pub(crate) async fn load(writer: &mut Writer) -> Result<State, StoreError> {
    let meta = meta(writer).await?;
    let (groups, overshoot_micros) = groups(writer).await?;
    let book = book(writer, &groups).await?;
    let limits = limits(writer, &groups).await?;
    Ok(State {
        deployment: meta.0,
        incarnation: meta.1,
        journal: writer.newest().await?,
        sites: all(writer, "SELECT body FROM sites", |site: &spillway_core::entity::Site| site.name.clone())
            .await?,
        pools: all(writer, "SELECT body FROM pools", |pool: &spillway_core::entity::Pool| pool.name.clone())
            .await?,
        groups,
        users: all(writer, "SELECT body FROM users", |user: &spillway_core::entity::User| user.name.clone())
            .await?,
        tokens: all(writer, "SELECT body FROM tokens", |it: &spillway_core::entity::Token| it.hash.clone())
            .await?,
        join_tokens: all(writer, "SELECT body FROM join_tokens", |it: &spillway_core::entity::JoinToken| {
            it.hash.clone()
        })
        .await?,
        nodes: all(writer, "SELECT body FROM nodes WHERE alive = 1", |it: &spillway_core::entity::Node| {
            it.id
        })
        .await?,
        instances: all(
            writer,
            "SELECT body FROM instances WHERE alive = 1",
            |it: &spillway_core::entity::Instance| it.id,
        )
        .await?,
        jobs: all(writer, "SELECT body FROM jobs WHERE alive = 1", |it: &spillway_core::entity::Job| it.id)
            .await?,
        attempts: all(
            writer,
            "SELECT body FROM attempts WHERE alive = 1",
            |it: &spillway_core::entity::Attempt| it.id,
        )
        .await?,
        submissions: all(writer, "SELECT body FROM submissions", |it: &spillway_core::entity::Submission| {
            it.key.clone()
        })
        .await?,
        book,
        limits,
        overshoot_micros,
        periods: periods(writer).await?,
        site_usage: named(writer, "SELECT name, body FROM site_usage").await?.into_iter().collect(),
        rates: rates(writer).await?,
        currencies: currencies(writer).await?,
        pool_books: pool_books(writer).await?,
        history: history(writer).await?,
        ..State::default()
    })
}

/// One entity from its body.
pub(crate) fn parse<T: DeserializeOwned>(target: &Target, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| {
        let start: String = body.chars().take(80).collect();
        target.corrupt(format_args!("the row `{start}...` cannot be read: {error}"))
    })
}

/// One column of text in each row.
pub(crate) fn bodies<T: DeserializeOwned>(target: &Target, rows: &[Row]) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| parse(target, &row.text(0).map_err(|error| target.sqlx(error))?)).collect()
}

async fn all<K: Ord, T: DeserializeOwned>(
    writer: &mut Writer,
    sql: &'static str,
    key: fn(&T) -> K,
) -> Result<BTreeMap<K, T>, StoreError> {
    let rows = writer.fetch(sql).await?;
    let entities: Vec<T> = bodies(&writer.target, &rows)?;
    Ok(entities.into_iter().map(|entity| (key(&entity), entity)).collect())
}

/// Deployment and incarnation from the rows of `meta`.
pub(crate) fn identity(target: &Target, rows: &[Row]) -> Result<(String, u64), StoreError> {
    let failed = |error| target.sqlx(error);
    let (mut deployment, mut incarnation) = (String::new(), 0);
    for row in rows {
        let value = row.text(1).map_err(failed)?;
        match row.text(0).map_err(failed)?.as_str() {
            "deployment" => deployment = value,
            "incarnation" => {
                incarnation = value
                    .parse()
                    .map_err(|_| target.corrupt(format_args!("its incarnation is `{value}`")))?;
            }
            other => return Err(target.corrupt(format_args!("`{other}` is nothing that meta has"))),
        }
    }
    Ok((deployment, incarnation))
}

async fn meta(writer: &mut Writer) -> Result<(String, u64), StoreError> {
    let rows = writer.fetch("SELECT name, value FROM meta").await?;
    identity(&writer.target, &rows)
}

async fn history(writer: &mut Writer) -> Result<History, StoreError> {
    let rows = writer.fetch("SELECT body FROM run_history").await?;
    let runs: Vec<Runs> = bodies(&writer.target, &rows)?;
    Ok(runs.into())
}

/// Rows of a name and a body.
async fn named<K: std::str::FromStr<Err: std::fmt::Display>, T: DeserializeOwned>(
    writer: &mut Writer,
    sql: &'static str,
) -> Result<Vec<(K, T)>, StoreError> {
    let rows = writer.fetch(sql).await?;
    let target = &writer.target;
    let pair = |row: &Row| {
        let name = row.text(0).map_err(|error| target.sqlx(error))?;
        let body = row.text(1).map_err(|error| target.sqlx(error))?;
        Ok((name.parse().map_err(|error| target.corrupt(error))?, parse(target, &body)?))
    };
    rows.iter().map(pair).collect()
}

async fn periods(writer: &mut Writer) -> Result<Periods, StoreError> {
    let mut periods = Periods::default();
    for (period, closed) in named(writer, "SELECT name, body FROM periods").await? {
        periods.restore(period, closed);
    }
    Ok(periods)
}

async fn rates(writer: &mut Writer) -> Result<RateBook, StoreError> {
    let mut rates = RateBook::default();
    for (pool, cards) in named(writer, "SELECT name, body FROM rate_cards").await? {
        rates.restore(pool, cards);
    }
    Ok(rates)
}

async fn currencies(writer: &mut Writer) -> Result<CurrencyTable, StoreError> {
    let mut currencies = CurrencyTable::default();
    for (currency, rates) in named(writer, "SELECT name, body FROM currencies").await? {
        currencies.restore(currency, rates);
    }
    Ok(currencies)
}

async fn pool_books(writer: &mut Writer) -> Result<PoolBooks, StoreError> {
    let mut books = PoolBooks {
        capacity: named(writer, "SELECT name, body FROM pool_capacity").await?.into_iter().collect(),
        ..PoolBooks::default()
    };
    let rows = writer.fetch("SELECT body FROM pool_months").await?;
    for closed in bodies::<PoolClosed>(&writer.target, &rows)? {
        let month = books.closed.entry(closed.month.period).or_default();
        month.insert(closed.month.pool.clone(), closed);
    }
    let open = "SELECT pool, booked, class, group_name, gpu_ms, micros FROM pool_use \
        WHERE booked > (SELECT COALESCE(MAX(name), '') FROM periods)";
    let rows = writer.fetch(open).await?;
    let target = &writer.target;
    for row in rows {
        let text = |column| row.text(column).map_err(|error| target.sqlx(error));
        let int = |column| row.int(column).map_err(|error| target.sqlx(error));
        let key = UseKey {
            pool: text(0)?.parse().map_err(|error| target.corrupt(error))?,
            booked: text(1)?.parse().map_err(|error| target.corrupt(error))?,
            class: text(2)?,
            group: text(3)?.parse().map_err(|error| target.corrupt(error))?,
        };
        books.uses.add(&key, Used { gpu_ms: int(4)?, micros: int(5)? });
    }
    Ok(books)
}

async fn limits(writer: &mut Writer, groups: &BTreeMap<GroupName, Group>) -> Result<Limits, StoreError> {
    let rows = writer.fetch("SELECT body FROM limits").await?;
    let rows: Vec<LimitRow> = bodies(&writer.target, &rows)?;
    let tree = groups.values().map(|group| (group.name.clone(), group.parent.clone()));
    Limits::from_rows(tree, rows)
        .map_err(|error| writer.target.corrupt(format_args!("the groups' limits: {error}")))
}

type Groups = (BTreeMap<GroupName, Group>, BTreeMap<GroupName, i64>);

async fn groups(writer: &mut Writer) -> Result<Groups, StoreError> {
    let rows = writer.fetch("SELECT body, overshoot_micros FROM tenants").await?;
    let target = &writer.target;
    let (mut groups, mut overshoots) = (BTreeMap::new(), BTreeMap::new());
    for (group, row) in bodies::<Group>(target, &rows)?.into_iter().zip(&rows) {
        if let Some(micros) = row.maybe_int(1).map_err(|error| target.sqlx(error))? {
            overshoots.insert(group.name.clone(), micros);
        }
        groups.insert(group.name.clone(), group);
    }
    Ok((groups, overshoots))
}

/// What the ledger's book reads itself from.
#[derive(Serialize)]
struct StoredBook {
    balances: BTreeMap<Account, i64>,
    groups: BTreeMap<GroupName, Limit>,
}

async fn book(writer: &mut Writer, groups: &BTreeMap<GroupName, Group>) -> Result<Book, StoreError> {
    let rows = writer.fetch("SELECT account, micros FROM balances").await?;
    let target = &writer.target;
    let limit = |group: &Group| Limit { parent: group.parent.clone(), limit_micros: group.budget_micros };
    let groups = groups.iter().map(|(name, group)| (name.clone(), limit(group))).collect();
    let mut balances = BTreeMap::new();
    for row in &rows {
        let account = row.text(0).map_err(|error| target.sqlx(error))?;
        let account = account.parse().map_err(|error| target.corrupt(error))?;
        balances.insert(account, row.int(1).map_err(|error| target.sqlx(error))?);
    }
    let stored = serde_json::to_value(StoredBook { balances, groups });
    stored
        .and_then(serde_json::from_value)
        .map_err(|error| target.corrupt(format_args!("the ledger's book: {error}")))
}
