//! A pool's month: made of its cards, its capacity and its use, whether it goes on or is closed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{
    ClassMonth, PoolClose, PoolCloseError, PoolMonth, Statement, UnusedRule, close_pool,
};
use spillway_ledger::rates::{Capacity, Unused, costed_month};
use spillway_types::{GpuModel, GroupName, PoolName, SiteKind, SiteName, UnixMs};

use crate::State;
use crate::entity::Pool;

/// A pool's month as it was, or would be, closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClosed {
    /// What it could give, what was used and what it cost.
    pub month: PoolMonth,
    /// What was charged by class, in micros; under the empty text what had no accelerators.
    pub charged: BTreeMap<String, i64>,
    /// Who pays for what nobody used.
    pub unused: Unused,
    /// What the cost consists of.
    pub close: PoolClose,
    /// What was posted; none where there was nothing to post.
    pub statement: Option<Statement>,
}

/// A class of a pool in a month, in figures. Those of a pool's classes sum to the pool's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// The class; none for what was charged without accelerators.
    pub class: Option<GpuModel>,
    /// What it could give, in milliseconds of one accelerator.
    pub capacity_ms: u64,
    /// What was used of that.
    pub used_ms: u64,
    /// What was charged for it, in micros.
    pub charged_micros: i64,
    /// What it costs, in micros: its part of the pool's cost, by rate and capacity.
    pub cost_micros: i64,
    /// What nobody used, at its rate, in micros. Never below 0.
    pub unused_micros: i64,
}

impl PoolRow {
    /// What is left of the cost, in micros; below 0 where the rates recovered more.
    #[must_use]
    pub const fn variance_micros(&self) -> i64 {
        self.cost_micros.saturating_sub(self.charged_micros).saturating_sub(self.unused_micros)
    }
}

impl PoolClosed {
    /// The pool's classes in figures.
    #[must_use]
    pub fn rows(&self) -> Vec<PoolRow> {
        let worth = |it: &ClassMonth| i128::from(it.rate.0) * i128::from(it.capacity_ms);
        let whole: i128 = self.month.classes.values().map(worth).sum();
        let cost = i128::from(self.month.cost_micros);
        // With no worth at all, the cost is the first row's.
        let by = |part: i128| if whole == 0 { cost } else { cost * (part / MS) / (whole / MS).max(1) };
        let (mut part, mut told) = (0, 0);
        let mut rows = vec![];
        let last = self.month.classes.len();
        for (place, (class, it)) in self.month.classes.iter().enumerate() {
            part += worth(it);
            let until = if place + 1 == last { cost } else { by(part) };
            let left = it.capacity_ms.saturating_sub(it.used_ms);
            rows.push(PoolRow {
                class: Some(class.clone()),
                capacity_ms: it.capacity_ms,
                used_ms: it.used_ms,
                charged_micros: self.charged.get(class.as_str()).copied().unwrap_or(0),
                cost_micros: i64::try_from(until - told).unwrap_or(i64::MAX),
                unused_micros: it.rate.cost_micros(1, 1, 0, left),
            });
            told = until;
        }
        let rest = self.month.used_micros - rows.iter().map(|row| row.charged_micros).sum::<i64>();
        if rest != 0 || (rows.is_empty() && cost != 0) {
            let cost_micros = if rows.is_empty() { self.month.cost_micros } else { 0 };
            let nothing = PoolRow {
                class: None,
                capacity_ms: 0,
                used_ms: 0,
                charged_micros: rest,
                cost_micros,
                unused_micros: 0,
            };
            rows.push(nothing);
        }
        rows
    }
}

/// Seconds are fine enough to part a cost by, and keep the product of a cost and a worth in 128 bits.
const MS: i128 = 1000;

impl State {
    /// Our own pools: on-prem, whoever may use them.
    pub fn own_pools(&self) -> impl Iterator<Item = &Pool> {
        let is_own =
            |pool: &&Pool| self.sites.get(&pool.site).is_some_and(|site| site.kind == SiteKind::OnPrem);
        self.pools.values().filter(is_own)
    }

    /// A pool's month until an instant of it, as it would be closed then. None where it has no rate card in it, or is
    /// lent: then nobody's money is in what nobody used.
    ///
    /// # Errors
    /// [`PoolCloseError`] where more was used than there was.
    pub fn pool_month(
        &self,
        pool: &Pool,
        (period, until): (Period, UnixMs),
    ) -> Result<Option<PoolClosed>, PoolCloseError> {
        let zone = self.periods.zone();
        let (none, books) = (Capacity::default(), &self.pool_books);
        let capacity = books.capacity.get(&pool.name).unwrap_or(&none);
        let cards = self.rates.of(&pool.name);
        let costed =
            cards.and_then(|cards| costed_month(cards, capacity, (period, until), (zone, &self.currencies)));
        let Some(costed) = costed else { return Ok(None) };
        let used = self.pool_used(&pool.name, period);
        let known = used.keys().filter_map(|class| class.parse::<GpuModel>().ok());
        let classes: BTreeSet<GpuModel> = costed.classes.keys().cloned().chain(known).collect();
        let class = |class: GpuModel| {
            let (capacity_ms, rate) = costed.classes.get(&class).copied().unwrap_or_default();
            let used_ms = used.get(class.as_str()).map_or(0, |(ms, _)| *ms);
            (class, ClassMonth { capacity_ms, used_ms, rate })
        };
        let is_there = |(_, it): &(GpuModel, ClassMonth)| it.capacity_ms > 0 || it.used_ms > 0;
        let charged: BTreeMap<String, i64> =
            used.iter().map(|(class, (_, micros))| (class.clone(), *micros)).collect();
        let month = PoolMonth {
            pool: pool.name.clone(),
            site: pool.site.clone(),
            period,
            cost_micros: costed.cost_micros,
            used_micros: charged.values().fold(0, |sum, micros| sum.saturating_add(*micros)),
            classes: classes.into_iter().map(class).filter(is_there).collect(),
        };
        let rule = self.unused_rule(&month, &costed.unused);
        let (close, statement) = close_pool(&month, &rule)?;
        Ok(Some(PoolClosed { month, charged, unused: costed.unused, close, statement }))
    }

    /// What was used of a pool in a month and charged for it, by class: milliseconds and micros.
    #[must_use]
    pub fn pool_used(&self, pool: &PoolName, period: Period) -> BTreeMap<String, (u64, i64)> {
        let classes = self.pool_books.uses.of(pool, period).into_iter().flatten();
        let sum = |(class, groups): (&String, &BTreeMap<GroupName, super::Used>)| {
            let ms: i64 = groups.values().map(|used| used.gpu_ms).sum();
            let micros: i64 = groups.values().map(|used| used.micros).sum();
            (class.clone(), (u64::try_from(ms).unwrap_or(0), micros))
        };
        classes.map(sum).collect()
    }

    /// The rule as weights of groups that there are.
    fn unused_rule(&self, month: &PoolMonth, unused: &Unused) -> UnusedRule {
        let weights = match unused {
            Unused::Idle => return UnusedRule::Idle,
            Unused::Shared { weights } => {
                let alive = weights.iter().filter(|(group, _)| self.groups.contains_key(*group));
                alive.map(|(group, weight)| (group.clone(), u64::from(*weight))).collect()
            }
            Unused::ByUse => {
                let mut charged: BTreeMap<GroupName, i64> = BTreeMap::new();
                let classes = self.pool_books.uses.of(&month.pool, month.period).into_iter().flatten();
                for (group, used) in classes.flat_map(|(_, groups)| groups) {
                    let sum = charged.entry(group.clone()).or_default();
                    *sum = sum.saturating_add(used.micros);
                }
                let weight = |(group, micros)| u64::try_from(micros).ok().map(|micros| (group, micros));
                charged.into_iter().filter_map(weight).collect()
            }
        };
        UnusedRule::Shared { weights }
    }
}

/// A pool in a month in figures: so far, or as it was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFigures {
    /// The pool.
    pub pool: PoolName,
    /// Its site.
    pub site: SiteName,
    /// Its classes. Without a rule their costs are 0.
    pub rows: Vec<PoolRow>,
    /// Who pays for what nobody used; none where that is nobody's affair.
    pub unused: Option<Unused>,
    /// Why its month cannot be closed.
    pub problem: Option<PoolCloseError>,
}

impl State {
    /// The pools of a month: of a closed one those that were accounted for, of an open one all machines that are not a
    /// cloud's, up to `now`.
    #[must_use]
    pub fn pool_figures(&self, period: Period, now: UnixMs) -> Vec<PoolFigures> {
        if self.periods.newest_closed().is_some_and(|closed| period <= closed) {
            let closed = self.pool_books.closed.get(&period).into_iter().flat_map(BTreeMap::values);
            return closed.map(figures).collect();
        }
        let is_cloud =
            |pool: &&Pool| self.sites.get(&pool.site).is_some_and(|site| site.kind == SiteKind::Cloud);
        let pools = self.pools.values().filter(|pool| !is_cloud(pool));
        pools.map(|pool| self.open_figures(pool, (period, now))).filter(|it| !it.rows.is_empty()).collect()
    }

    fn open_figures(&self, pool: &Pool, (period, now): (Period, UnixMs)) -> PoolFigures {
        let is_own = self.sites.get(&pool.site).is_some_and(|site| site.kind == SiteKind::OnPrem);
        let month = if is_own { self.pool_month(pool, (period, now)) } else { Ok(None) };
        let problem = match month {
            Ok(Some(closed)) => return figures(&closed),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let rows = self.used_rows(&pool.name, (period, now));
        PoolFigures { pool: pool.name.clone(), site: pool.site.clone(), rows, unused: None, problem }
    }

    /// What a pool could give by its machines and what was used of it, without costs.
    fn used_rows(&self, pool: &PoolName, (period, now): (Period, UnixMs)) -> Vec<PoolRow> {
        let (zone, used) = (self.periods.zone(), self.pool_used(pool, period));
        let (start, until) = (period.start(zone), now.min(period.end(zone)));
        let capacity = self.pool_books.capacity.get(pool);
        let mut classes: BTreeSet<Option<GpuModel>> = used.keys().map(|class| class.parse().ok()).collect();
        classes.extend(capacity.into_iter().flat_map(Capacity::classes).cloned().map(Some));
        let row = |class: Option<GpuModel>| {
            let name = class.as_ref().map(GpuModel::as_str).unwrap_or_default();
            let (used_ms, charged_micros) = used.get(name).copied().unwrap_or_default();
            let capacity_ms =
                class.as_ref().zip(capacity).map_or(0, |(class, it)| it.gpu_ms(class, start, until));
            PoolRow { class, capacity_ms, used_ms, charged_micros, cost_micros: 0, unused_micros: 0 }
        };
        let is_there = |row: &PoolRow| row.capacity_ms > 0 || row.used_ms > 0 || row.charged_micros != 0;
        classes.into_iter().map(row).filter(is_there).collect()
    }
}

fn figures(closed: &PoolClosed) -> PoolFigures {
    PoolFigures {
        pool: closed.month.pool.clone(),
        site: closed.month.site.clone(),
        rows: closed.rows(),
        unused: Some(closed.unused.clone()),
        problem: None,
    }
}
