//! Roll-ups: what was charged, added up by day and by whom, where and on what it was.
//!
//! A roll-up is a projection of the journal: the fold of [`Rollup::add`] over its entries, in any order and in any
//! parts. The store keeps one up in the transaction that writes the entries, and can make it anew at any time;
//! [`Rollup::differences`] says where the two are not the same. A reversal counts below 0, so that it and what it takes
//! back come to nothing.
//!
//! Adding is associative and commutative, in integers of 128 bits. Left out on purpose: job and attempt, which are
//! almost as many as the charges themselves; reports by them add the charges up.

mod cover;
mod exchange;
#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use spillway_types::{CloudName, GroupName, HourlyRate, SiteName, UnixMs};

use crate::calendar::{Day, Period};
use crate::journal::{Fact, Statement};
use crate::{Account, Amendment, Entry, EntryKind, Posting, Usage};

pub use cover::{Bucket, Grain, MAX_BUCKETS, Piece, TooMany, Unit, buckets, cover, month_of};
pub use exchange::in_currency;

/// Who provides the accelerators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// The owner of an on-prem or personal site.
    OnPrem,
    /// A cloud.
    Cloud(CloudName),
}

impl Provider {
    /// Its name in stored rows and in reports of what is no cloud's.
    pub const ON_PREM: &'static str = "on-prem";
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnPrem => f.pad(Self::ON_PREM),
            Self::Cloud(cloud) => f.pad(cloud.as_str()),
        }
    }
}

/// What charges are added up by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dimensions {
    /// The day in UTC on which the use began.
    pub day: Day,
    /// The month into which it is booked: another one than the day's where that was closed.
    pub booked: Period,
    /// The group that pays.
    pub group: GroupName,
    /// The user who submitted; empty where nobody did: in a group's share of what nobody used of a pool.
    pub user: String,
    /// Where it ran.
    pub site: SiteName,
    /// The pool; empty where it ran in none, or where that was not noted.
    pub pool: String,
    /// Who provides it.
    pub provider: Provider,
    /// The class of accelerators; empty where there were none, or where that was not noted.
    pub class: String,
    /// How the machine was bought; empty where it was not, or where that was not noted.
    pub market: String,
}

/// What was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures {
    /// All of it, in micros.
    pub spend_micros: i128,
    /// Of that, what was paid beside slices: what instances cost while nothing ran on them (boot, idle time, the unused
    /// share), and a group's share of what nobody used of a pool.
    pub overhead_micros: i128,
    /// Of that, what bytes that left a site cost.
    pub egress_micros: i128,
    /// Of that, what slices cost that were bought of a cloud, and so have a list price to be compared with.
    pub listed_micros: i128,
    /// What the same slices would have cost at list price, on demand.
    pub list_micros: i128,
    /// Of that, what slices cost that were bought of a cloud, and for which a pool of our own has a price.
    pub matched_micros: i128,
    /// What the same slices would have cost there.
    pub on_prem_micros: i128,
    /// Accelerator time, in milliseconds of one whole accelerator.
    pub gpu_ms: i128,
    /// The same by weight, in milliseconds of the reference.
    pub normalised_ms: i128,
    /// Slices of use; one that is taken back counts -1.
    pub slices: i128,
}

impl Measures {
    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// What was saved against list price: list less what was paid for the same, in micros; below 0 where more was
    /// paid.
    #[must_use]
    pub const fn saved_micros(&self) -> i128 {
        self.list_micros - self.listed_micros
    }

    /// What a pool of our own would have saved: less than 0 where the cloud was dearer, in micros.
    #[must_use]
    pub const fn saved_against_on_prem_micros(&self) -> i128 {
        self.on_prem_micros - self.matched_micros
    }

    /// What an accelerator-hour cost, everything included, in micros, rounded to the nearest; none where no
    /// accelerator was used.
    #[must_use]
    pub fn micros_per_gpu_hour(&self) -> Option<i128> {
        per_hour(self.spend_micros, self.gpu_ms)
    }

    /// The same for an hour of the reference, by weight.
    #[must_use]
    pub fn micros_per_normalised_gpu_hour(&self) -> Option<i128> {
        per_hour(self.spend_micros, self.normalised_ms)
    }
}

fn per_hour(micros: i128, ms: i128) -> Option<i128> {
    const HOUR_MS: i128 = 3_600_000;
    (2 * micros * HOUR_MS + ms).checked_div_euclid(2 * ms).filter(|_| ms > 0)
}

impl std::ops::AddAssign for Measures {
    fn add_assign(&mut self, other: Self) {
        self.spend_micros += other.spend_micros;
        self.overhead_micros += other.overhead_micros;
        self.egress_micros += other.egress_micros;
        self.listed_micros += other.listed_micros;
        self.list_micros += other.list_micros;
        self.matched_micros += other.matched_micros;
        self.on_prem_micros += other.on_prem_micros;
        self.gpu_ms += other.gpu_ms;
        self.normalised_ms += other.normalised_ms;
        self.slices += other.slices;
    }
}

impl std::iter::Sum for Measures {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// One charge as it is added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// By what.
    pub dimensions: Dimensions,
    /// How much.
    pub measures: Measures,
    /// The data sets that the job read, each once, in order.
    pub datasets: Vec<String>,
}

impl Charge {
    /// What an entry charges, with the instant of what it says and the month it is booked into; none for entries that
    /// only reserve money or give it back.
    #[must_use]
    pub fn of(entry: &Entry, effective_at: UnixMs, booked: Period) -> Option<Self> {
        if matches!(entry.kind(), EntryKind::Hold | EntryKind::Release) {
            return None;
        }
        let (subject, usage) = (entry.subject(), entry.usage());
        let cloud = match entry.payee() {
            Some(Account::Payable { cloud, .. }) => Some(cloud),
            Some(
                Account::Revenue(_)
                | Account::Owner(_)
                | Account::Held(_)
                | Account::Committed
                | Account::Spend(_)
                | Account::Idle(_)
                | Account::Variance(_),
            )
            | None => None,
        };
        let dimensions = Dimensions {
            day: Day::of(effective_at),
            booked,
            group: subject.group.clone(),
            user: subject.user.to_string(),
            site: subject.site.clone(),
            pool: name(usage.and_then(|usage| usage.pool.as_ref())),
            // Use that cost nothing has no posting that says who provides it.
            provider: cloud
                .or_else(|| usage.and_then(|usage| usage.cloud.as_ref()))
                .map_or(Provider::OnPrem, |cloud| Provider::Cloud(cloud.clone())),
            class: name(usage.and_then(|usage| usage.class.as_ref())),
            market: name(usage.and_then(|usage| usage.market.as_ref())),
        };
        let datasets = usage.map(|usage| usage.datasets.as_slice()).unwrap_or_default();
        let datasets: BTreeSet<String> = datasets.iter().map(ToString::to_string).collect();
        Some(Self { dimensions, measures: measures(entry), datasets: datasets.into_iter().collect() })
    }

    /// What a statement charges to groups: to each its share of what nobody used of a pool, at `effective_at`.
    #[must_use]
    pub fn of_statement(statement: &Statement, effective_at: UnixMs, booked: Period) -> Vec<Self> {
        let share = |posting: &Posting| {
            let Account::Spend(group) = &posting.account else { return None };
            let spend_micros = i128::from(posting.micros);
            let dimensions = Dimensions {
                day: Day::of(effective_at),
                booked,
                group: group.clone(),
                user: String::new(),
                site: statement.site().clone(),
                pool: name(statement.pool()),
                provider: Provider::OnPrem,
                class: String::new(),
                market: String::new(),
            };
            let measures = Measures { spend_micros, overhead_micros: spend_micros, ..Measures::default() };
            Some(Self { dimensions, measures, datasets: vec![] })
        };
        statement.postings().iter().filter_map(share).collect()
    }

    /// What a fact of the journal charges.
    #[must_use]
    pub fn of_fact(fact: &Fact, effective_at: UnixMs, booked: Period) -> Vec<Self> {
        match fact {
            Fact::Entry(entry) => Self::of(entry, effective_at, booked).into_iter().collect(),
            Fact::Statement(statement) => Self::of_statement(statement, effective_at, booked),
        }
    }
}

/// What is not known is the empty text.
fn name(of: Option<&impl ToString>) -> String {
    of.map(ToString::to_string).unwrap_or_default()
}

fn measures(entry: &Entry) -> Measures {
    let spend_micros = i128::from(entry.spend_micros());
    let of_kind = |kind: EntryKind| if entry.kind() == kind { spend_micros } else { 0 };
    let sign = match entry.amends() {
        Some(Amendment::Reverses { .. }) => -1,
        Some(Amendment::Replaces { .. }) | None => 1,
    };
    let slice = entry.kind() == EntryKind::Charge;
    // Only what was bought of a cloud has another price to be compared with; of a slice it counts once, however many
    // entries pay for it.
    let listed = entry.usage().filter(|usage| usage.cloud.is_some());
    let listed = listed.filter(|_| slice || entry.kind() == EntryKind::Overrun);
    let list = listed.filter(|_| slice).map_or(0, |usage| micros_at(usage, usage.list_rate));
    let matched = listed.and_then(|usage| Some((usage, usage.on_prem_rate?)));
    let on_prem = matched.filter(|_| slice).map_or(0, |(usage, rate)| micros_at(usage, rate));
    Measures {
        spend_micros,
        overhead_micros: of_kind(EntryKind::Overhead),
        egress_micros: of_kind(EntryKind::Egress),
        listed_micros: listed.map_or(0, |_| spend_micros),
        list_micros: sign * list,
        matched_micros: matched.map_or(0, |_| spend_micros),
        on_prem_micros: sign * on_prem,
        gpu_ms: i128::from(entry.signed_gpu_ms()),
        normalised_ms: i128::from(entry.signed_normalised_ms()),
        slices: if slice { sign } else { 0 },
    }
}

/// What a slice costs at another rate, telescoping like its cost.
fn micros_at(usage: &Usage, rate: HourlyRate) -> i128 {
    let (from, to) = (usage.offset_ms, usage.offset_ms.saturating_add(usage.span_ms()));
    i128::from(rate.cost_micros(1, 1, from, to).max(0))
}

/// Charges added up. Equal roll-ups say the same: a row of nothing is no row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollup {
    rows: BTreeMap<Dimensions, Measures>,
    datasets: BTreeMap<(String, Dimensions), Measures>,
}

/// A row that is not what the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row.
    pub dimensions: Dimensions,
    /// The data set, where the row is about one.
    pub dataset: Option<String>,
    /// What the journal says.
    pub journal: Measures,
    /// What is stored.
    pub stored: Measures,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dimensions { day, booked, group, user, site, pool, provider, class, market } = &self.dimensions;
        write!(f, "the roll-up of {day} (booked {booked}), group {group}, user {user}, site {site}")?;
        for (name, value) in [("pool", pool), ("class", class), ("market", market)] {
            if !value.is_empty() {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(dataset) = &self.dataset {
            write!(f, ", data set {dataset}")?;
        }
        let (journal, stored) = (&self.journal, &self.stored);
        write!(f, ", provider {provider} is not what the journal says: ")?;
        let mut first = true;
        for (name, journal, stored) in [
            ("micros spent", journal.spend_micros, stored.spend_micros),
            ("micros of overhead", journal.overhead_micros, stored.overhead_micros),
            ("micros of egress", journal.egress_micros, stored.egress_micros),
            ("micros with a list price", journal.listed_micros, stored.listed_micros),
            ("micros at list price", journal.list_micros, stored.list_micros),
            ("micros with a price on-prem", journal.matched_micros, stored.matched_micros),
            ("micros at that price", journal.on_prem_micros, stored.on_prem_micros),
            ("ms of accelerators", journal.gpu_ms, stored.gpu_ms),
            ("ms of the reference", journal.normalised_ms, stored.normalised_ms),
            ("slices", journal.slices, stored.slices),
        ] {
            if journal != stored {
                write!(
                    f,
                    "{}{name}: {stored} are stored, {journal} are in the journal",
                    if first { "" } else { "; " }
                )?;
                first = false;
            }
        }
        Ok(())
    }
}

impl Rollup {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a charge.
    pub fn add(&mut self, charge: Charge) {
        let Charge { dimensions, measures, datasets } = charge;
        for dataset in datasets {
            self.add_dataset(dataset, dimensions.clone(), measures);
        }
        self.add_row(dimensions, measures);
    }

    /// Adds to one row, as it was stored.
    pub fn add_row(&mut self, dimensions: Dimensions, measures: Measures) {
        add(&mut self.rows, dimensions, measures);
    }

    /// Adds to one row about a data set, as it was stored.
    pub fn add_dataset(&mut self, dataset: String, dimensions: Dimensions, measures: Measures) {
        add(&mut self.datasets, (dataset, dimensions), measures);
    }

    /// Adds another roll-up.
    pub fn merge(&mut self, other: Self) {
        other.rows.into_iter().for_each(|(dimensions, measures)| self.add_row(dimensions, measures));
        for ((dataset, dimensions), measures) in other.datasets {
            self.add_dataset(dataset, dimensions, measures);
        }
    }

    /// The rows, in the order of their dimensions.
    #[must_use]
    pub const fn rows(&self) -> &BTreeMap<Dimensions, Measures> {
        &self.rows
    }

    /// The rows about data sets. What read several counts in each, so that these do not sum to all that was charged.
    #[must_use]
    pub const fn datasets(&self) -> &BTreeMap<(String, Dimensions), Measures> {
        &self.datasets
    }

    /// The same by months of UTC: each row is of the first day of its month. The rows about data sets stay by day.
    #[must_use]
    pub fn by_month(&self) -> Self {
        let mut months = Self::default();
        for (dimensions, measures) in &self.rows {
            let day = month_of(dimensions.day);
            months.add_row(Dimensions { day, ..dimensions.clone() }, *measures);
        }
        months
    }

    /// The sums by a key of one's own, in its order.
    #[must_use]
    pub fn by<K: Ord>(&self, key: impl Fn(&Dimensions) -> K) -> BTreeMap<K, Measures> {
        let mut sums: BTreeMap<K, Measures> = BTreeMap::new();
        for (dimensions, measures) in &self.rows {
            *sums.entry(key(dimensions)).or_default() += *measures;
        }
        sums
    }

    /// What all of it comes to.
    #[must_use]
    pub fn total(&self) -> Measures {
        self.rows.values().copied().sum()
    }

    /// The rows of which `stored` does not say the same. This is the roll-up that was made of the journal.
    #[must_use]
    pub fn differences(&self, stored: &Self) -> Vec<Difference> {
        let rows = differing(&self.rows, &stored.rows).map(|(dimensions, journal, stored)| Difference {
            dimensions: dimensions.clone(),
            dataset: None,
            journal,
            stored,
        });
        let datasets = differing(&self.datasets, &stored.datasets);
        let datasets = datasets.map(|((dataset, dimensions), journal, stored)| Difference {
            dimensions: dimensions.clone(),
            dataset: Some(dataset.clone()),
            journal,
            stored,
        });
        rows.chain(datasets).collect()
    }
}

fn add<K: Ord>(rows: &mut BTreeMap<K, Measures>, key: K, measures: Measures) {
    match rows.entry(key) {
        std::collections::btree_map::Entry::Vacant(place) => {
            if !measures.is_zero() {
                place.insert(measures);
            }
        }
        std::collections::btree_map::Entry::Occupied(mut place) => {
            *place.get_mut() += measures;
            if place.get().is_zero() {
                place.remove();
            }
        }
    }
}

fn differing<'a, K: Ord>(
    journal: &'a BTreeMap<K, Measures>,
    stored: &'a BTreeMap<K, Measures>,
) -> impl Iterator<Item = (&'a K, Measures, Measures)> {
    let missing = stored.iter().filter(|(key, _)| !journal.contains_key(key));
    let missing = missing.map(|(key, stored)| (key, Measures::default(), *stored));
    let other = journal.iter().filter_map(|(key, journal)| {
        let stored = stored.get(key).copied().unwrap_or_default();
        (stored != *journal).then_some((key, *journal, stored))
    });
    other.chain(missing)
}
