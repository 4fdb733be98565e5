//! The balances, the tree of groups with their limits, and what each group has spent and holds with all below it.
//!
//! The totals of a group are kept as entries are posted, so that a budget is checked in the depth of the tree.
//! They are a projection of the balances and the tree: never stored, made again when a book is read or the tree
//! changes. Posting never fails: metering is never refused. Sums saturate at 9.2 * 10^12 currency units; the
//! imbalance would show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::GroupName;

use crate::refusal::{Amount, BudgetRefusal, RefusalKind};
use crate::{Account, Entry, Posting};

/// A group's place in the tree and its limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limit {
    /// The group above it.
    pub parent: Option<GroupName>,
    /// How much it and the groups below it may spend and hold together, in micros; `None` is no limit of its own.
    pub limit_micros: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Totals {
    spent: i64,
    held: i64,
}

impl Totals {
    const fn sum(self) -> i64 {
        self.spent.saturating_add(self.held)
    }
}

/// Why a group cannot be set so. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The parent does not exist.
    #[error("group `{group}` cannot be below `{parent}`: there is no group `{parent}`; create it first")]
    UnknownParent {
        /// The group that was to be set.
        group: GroupName,
        /// The parent it was to have.
        parent: GroupName,
    },
    /// The parent is the group itself or below it.
    #[error("group `{group}` cannot be below `{parent}`: `{parent}` is the group itself or one below it")]
    Cycle {
        /// The group that was to be set.
        group: GroupName,
        /// The parent it was to have.
        parent: GroupName,
    },
    /// The limit is below what is spent and held already: of the group itself, or of one that it would be put below.
    #[error(
        "the limit of group `{group}` would be {}, below the {} that it has spent ({}) and holds ({}): set it to {} or more",
        Amount(*limit_micros), Amount(spent_micros.saturating_add(*held_micros)), Amount(*spent_micros),
        Amount(*held_micros), Amount(spent_micros.saturating_add(*held_micros))
    )]
    LimitTooLow {
        /// The group whose limit it is.
        group: GroupName,
        /// The limit, in micros.
        limit_micros: i64,
        /// What it and the groups below it have spent, in micros.
        spent_micros: i64,
        /// What they hold, in micros.
        held_micros: i64,
    },
    /// There is no such group.
    #[error("there is no group `{group}`")]
    Unknown {
        /// The group.
        group: GroupName,
    },
    /// There are groups below it.
    #[error(
        "group `{group}` cannot be removed: `{child}` is below it; remove that first or put it elsewhere"
    )]
    HasChildren {
        /// The group.
        group: GroupName,
        /// A group below it.
        child: GroupName,
    },
    /// Something was posted for it.
    #[error(
        "group `{group}` cannot be removed: what it spent and held stays on record; take its members out and set its budget to what it has spent"
    )]
    OnRecord {
        /// The group.
        group: GroupName,
    },
    /// A stored tree has a loop.
    #[error("the stored tree of groups has a loop through `{group}`")]
    Loop {
        /// A group of the loop.
        group: GroupName,
    },
}

/// The balances and the budgets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Book {
    balances: BTreeMap<Account, i64>,
    groups: BTreeMap<GroupName, Limit>,
    totals: BTreeMap<GroupName, Totals>,
}

/// What of a book is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    balances: BTreeMap<Account, i64>,
    groups: BTreeMap<GroupName, Limit>,
}

impl From<Book> for Stored {
    fn from(book: Book) -> Self {
        Self { balances: book.balances, groups: book.groups }
    }
}

impl TryFrom<Stored> for Book {
    type Error = GroupError;

    fn try_from(stored: Stored) -> Result<Self, GroupError> {
        for (group, limit) in &stored.groups {
            if let Some(parent) = limit.parent.as_ref().filter(|parent| !stored.groups.contains_key(parent)) {
                return Err(GroupError::UnknownParent { group: group.clone(), parent: parent.clone() });
            }
            let steps = chain(&stored.groups, group).take(stored.groups.len() + 1).count();
            if steps > stored.groups.len() {
                return Err(GroupError::Loop { group: group.clone() });
            }
        }
        let totals = totals_of(&stored.balances, &stored.groups);
        Ok(Self { balances: stored.balances, groups: stored.groups, totals })
    }
}

/// The group and those above it, nearest first.
fn chain<'a>(
    groups: &'a BTreeMap<GroupName, Limit>,
    group: &'a GroupName,
) -> impl Iterator<Item = &'a GroupName> {
    std::iter::successors(Some(group), |name| groups.get(*name).and_then(|limit| limit.parent.as_ref()))
}

/// Adds what is posted on `account` to the totals of its group and those above.
fn add(
    totals: &mut BTreeMap<GroupName, Totals>,
    groups: &BTreeMap<GroupName, Limit>,
    account: &Account,
    micros: i64,
) {
    let (group, spent, held) = match account {
        Account::Held(group) => (group, 0, micros),
        Account::Spend(group) => (group, micros, 0),
        Account::Committed
        | Account::Revenue(_)
        | Account::Payable { .. }
        | Account::Owner(_)
        | Account::Idle(_)
        | Account::Variance(_) => return,
    };
    for name in chain(groups, group) {
        // A name is cloned once: most postings find their group known.
        if !totals.contains_key(name) {
            totals.insert(name.clone(), Totals::default());
        }
        let Some(total) = totals.get_mut(name) else { continue };
        total.spent = total.spent.saturating_add(spent);
        total.held = total.held.saturating_add(held);
    }
}

fn totals_of(
    balances: &BTreeMap<Account, i64>,
    groups: &BTreeMap<GroupName, Limit>,
) -> BTreeMap<GroupName, Totals> {
    let mut totals = BTreeMap::new();
    for (account, micros) in balances {
        add(&mut totals, groups, account, *micros);
    }
    totals
}

fn check_limit(group: &GroupName, limit_micros: i64, total: Totals) -> Result<(), GroupError> {
    if limit_micros >= 0 && total.sum() <= limit_micros {
        return Ok(());
    }
    Err(GroupError::LimitTooLow {
        group: group.clone(),
        limit_micros,
        spent_micros: total.spent,
        held_micros: total.held,
    })
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the group, or changes its parent and limit. A limit that is not lowered is always taken, so that a
    /// group in overrun can be given more; children may together have more than their parent.
    ///
    /// # Errors
    /// [`GroupError`] where the parent does not exist or is below the group, where the limit is lowered below what
    /// is spent and held, or where a move puts more under an ancestor than its limit.
    pub fn set_group(
        &mut self,
        name: GroupName,
        parent: Option<GroupName>,
        limit_micros: Option<i64>,
    ) -> Result<(), GroupError> {
        if let Some(parent) = &parent {
            if *parent == name || chain(&self.groups, parent).any(|above| *above == name) {
                return Err(GroupError::Cycle { group: name, parent: parent.clone() });
            }
            if !self.groups.contains_key(parent) {
                return Err(GroupError::UnknownParent { group: name, parent: parent.clone() });
            }
        }
        let before = self.groups.get(&name).and_then(|limit| limit.limit_micros);
        if let Some(limit) = limit_micros.filter(|limit| before.is_none_or(|before| *limit < before)) {
            check_limit(&name, limit, self.total(&name))?;
        }
        let mut groups = self.groups.clone();
        groups.insert(name.clone(), Limit { parent, limit_micros });
        let totals = totals_of(&self.balances, &groups);
        for above in chain(&groups, &name).skip(1) {
            let total = totals.get(above).copied().unwrap_or_default();
            let limit = groups.get(above).and_then(|limit| limit.limit_micros);
            if let Some(limit) = limit.filter(|_| total.sum() > self.total(above).sum()) {
                check_limit(above, limit, total)?;
            }
        }
        self.groups = groups;
        self.totals = totals;
        Ok(())
    }

    /// Removes a group that nothing was ever posted for and that no group is below.
    ///
    /// # Errors
    /// [`GroupError`] where there is no such group, where one is below it, or where it has spent or holds something.
    pub fn remove_group(&mut self, name: &GroupName) -> Result<(), GroupError> {
        self.check_removal(name)?;
        self.groups.remove(name);
        self.totals.remove(name);
        Ok(())
    }

    /// Whether a group can be removed.
    ///
    /// # Errors
    /// As for [`Book::remove_group`].
    pub fn check_removal(&self, name: &GroupName) -> Result<(), GroupError> {
        if !self.groups.contains_key(name) {
            return Err(GroupError::Unknown { group: name.clone() });
        }
        if let Some((child, _)) = self.groups.iter().find(|(_, group)| group.parent.as_ref() == Some(name)) {
            return Err(GroupError::HasChildren { group: name.clone(), child: child.clone() });
        }
        let posted = |account: &&Account| matches!(account, Account::Spend(group) | Account::Held(group) if group == name);
        if self.balances.keys().any(|account| posted(&account)) {
            return Err(GroupError::OnRecord { group: name.clone() });
        }
        Ok(())
    }

    /// Posts an entry. That each entry is posted once is for the caller to see to, by its key.
    pub fn apply(&mut self, entry: &Entry) {
        self.post(entry.postings());
    }

    /// Posts postings that sum to zero.
    pub fn post(&mut self, postings: &[Posting]) {
        for posting in postings {
            match self.balances.get_mut(&posting.account) {
                Some(balance) => *balance = balance.saturating_add(posting.micros),
                None => drop(self.balances.insert(posting.account.clone(), posting.micros)),
            }
            add(&mut self.totals, &self.groups, &posting.account, posting.micros);
        }
    }

    /// The balance of one account, in micros; 0 where nothing was posted.
    #[must_use]
    pub fn balance(&self, account: &Account) -> i64 {
        self.balances.get(account).copied().unwrap_or(0)
    }

    /// Every account that was posted on, with its balance in micros, in the order of accounts.
    pub fn balances(&self) -> impl Iterator<Item = (&Account, i64)> {
        self.balances.iter().map(|(account, micros)| (account, *micros))
    }

    /// The sum of all balances, in micros. Anything but 0 is a defect.
    #[must_use]
    pub fn imbalance(&self) -> i64 {
        let sum: i128 = self.balances.values().map(|micros| i128::from(*micros)).sum();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    fn total(&self, group: &GroupName) -> Totals {
        self.totals.get(group).copied().unwrap_or_default()
    }

    /// What the group and those below it have spent, in micros.
    #[must_use]
    pub fn spent(&self, group: &GroupName) -> i64 {
        self.total(group).spent
    }

    /// What the unsettled attempts of the group and those below it still hold, in micros.
    #[must_use]
    pub fn held(&self, group: &GroupName) -> i64 {
        self.total(group).held
    }

    /// The group, if it was set.
    #[must_use]
    pub fn group(&self, group: &GroupName) -> Option<&Limit> {
        self.groups.get(group)
    }

    /// Every group that was set, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &Limit)> {
        self.groups.iter()
    }

    /// The group and those above it, nearest first.
    pub fn ancestors<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = &'a GroupName> {
        chain(&self.groups, group)
    }

    /// The group and those above it that have a limit, with it, nearest first.
    fn limits<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = (&'a GroupName, i64)> {
        self.ancestors(group).filter_map(|name| Some((name, self.groups.get(name)?.limit_micros?)))
    }

    /// What the group can still hold, in micros: the least that it or a group above it has left. Below 0 after an
    /// overrun; `None` where no limit applies.
    #[must_use]
    pub fn left(&self, group: &GroupName) -> Option<i64> {
        self.limits(group).map(|(name, limit)| limit.saturating_sub(self.total(name).sum())).min()
    }

    /// Whether the limits of the group and all above it have room to hold `micros` more. A hold of 0 always fits,
    /// and a group that was never set has no limits: that it exists is for the caller to check.
    ///
    /// # Errors
    /// [`BudgetRefusal`] naming the group whose limit binds: the most lasting refusal, then the greatest shortfall.
    pub fn can_hold(&self, group: &GroupName, micros: i64) -> Result<(), BudgetRefusal> {
        if micros <= 0 {
            return Ok(());
        }
        let refusals = self.limits(group).filter_map(|(name, limit)| self.refusal(name, limit, micros));
        // Of equals `max_by_key` takes the last; reversed, that is the nearest to the group.
        let refusals: Vec<_> = refusals.collect();
        refusals.into_iter().rev().max_by_key(BudgetRefusal::gravity).map_or(Ok(()), Err)
    }

    fn refusal(&self, name: &GroupName, limit_micros: i64, wanted_micros: i64) -> Option<BudgetRefusal> {
        let Totals { spent, held } = self.total(name);
        let shortfall =
            i128::from(spent) + i128::from(held) + i128::from(wanted_micros) - i128::from(limit_micros);
        (shortfall > 0).then(|| BudgetRefusal {
            binding: name.clone(),
            limit_micros,
            spent_micros: spent,
            held_micros: held,
            wanted_micros,
            shortfall_micros: i64::try_from(shortfall).unwrap_or(i64::MAX),
            kind: if wanted_micros > limit_micros { RefusalKind::NeverFits } else { RefusalKind::UsedUp },
        })
    }
}

#[cfg(test)]
mod tests;
