//! The limits as rows that are stored one by one, and changes as they are asked for and written down.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_types::{AttemptId, Currency, GroupName, UnixMs};

use super::state::{Node, Stored, StoredGroup};
use super::{Holding, Limit, LimitId, Limits, LimitsError, Transfer, WeightChange, Weights};
use crate::calendar::Zone;

/// A change of the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum LimitsChange {
    /// A limit is made or changed.
    Set {
        /// The limit.
        limit: Limit,
    },
    /// A limit is removed.
    Remove {
        /// Which.
        id: LimitId,
    },
    /// Budget goes from one group to another.
    Transfer {
        /// The transfer.
        transfer: Transfer,
    },
    /// A group's months are those of another time zone from now on.
    Zone {
        /// The group.
        group: GroupName,
        /// The zone.
        zone: Zone,
    },
    /// A group is told amounts in another currency from now on.
    Currency {
        /// The group.
        group: GroupName,
        /// The currency; none is that of the group above it.
        currency: Option<Currency>,
    },
    /// A class of accelerators weighs something else from a date on.
    Weigh {
        /// The change.
        weight: WeightChange,
    },
}

/// Names a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKey {
    /// A group's limits and use.
    Group(GroupName),
    /// An attempt's hold.
    Hold(AttemptId),
    /// A transfer, by its key.
    Transfer(String),
    /// The weights of all classes.
    Weights,
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "group/{group}"),
            Self::Hold(attempt) => write!(f, "hold/{attempt}"),
            Self::Transfer(key) => write!(f, "transfer/{key}"),
            Self::Weights => f.write_str("weights"),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitRow(Row);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "row")]
enum Row {
    Group { group: GroupName, kept: StoredGroup },
    Hold { attempt: AttemptId, hold: Box<Holding> },
    Transfer { transfer: Transfer },
    Weights { weights: Weights },
}

impl Limits {
    /// Carries out a change. Gives the rows that are others now.
    ///
    /// # Errors
    /// [`LimitsError`] where it cannot be; nothing changed then.
    pub fn change(&mut self, change: &LimitsChange, now: UnixMs) -> Result<Vec<LimitKey>, LimitsError> {
        match change {
            LimitsChange::Set { limit } => {
                self.set_limit(limit.clone(), now)?;
                Ok(vec![LimitKey::Group(limit.id.group.clone())])
            }
            LimitsChange::Remove { id } => {
                self.remove_limit(id, now)?;
                Ok(vec![LimitKey::Group(id.group.clone())])
            }
            LimitsChange::Transfer { transfer } => {
                self.transfer(transfer, now)?;
                let groups = [&transfer.from, &transfer.to].map(|id| LimitKey::Group(id.group.clone()));
                Ok(groups.into_iter().chain([LimitKey::Transfer(transfer.key.clone())]).collect())
            }
            LimitsChange::Zone { group, zone } => self.change_node(group, |node| node.zone = zone.clone()),
            LimitsChange::Currency { group, currency } => {
                self.change_node(group, |node| node.currency = *currency)
            }
            LimitsChange::Weigh { weight } => {
                self.change_weight(weight, now)?;
                Ok(vec![LimitKey::Weights])
            }
        }
    }

    fn change_node(
        &mut self,
        group: &GroupName,
        change: impl FnOnce(&mut Node),
    ) -> Result<Vec<LimitKey>, LimitsError> {
        let unknown = || LimitsError::UnknownGroup { group: group.clone() };
        let at = self.place_of(group).ok_or_else(unknown)?;
        if let Some(node) = self.nodes.get_mut(at) {
            change(node);
        }
        Ok(vec![LimitKey::Group(group.clone())])
    }

    /// The rows of a group and of all above it: what a charge to the group changes.
    #[must_use]
    pub fn rows_above(&self, group: &GroupName) -> Vec<LimitKey> {
        let places = self.place_of(group).into_iter().flat_map(|at| self.ancestors(at));
        places.filter_map(|at| self.nodes.get(at)).map(|node| LimitKey::Group(node.name.clone())).collect()
    }

    /// A row as it is now; none where there is no such thing any more.
    #[must_use]
    pub fn row(&self, key: &LimitKey) -> Option<LimitRow> {
        let row = match key {
            LimitKey::Group(group) => {
                let node = self.nodes.get(self.place_of(group)?)?;
                let parent = node.parent.and_then(|at| self.nodes.get(at)).map(|above| above.name.clone());
                let (zone, currency) = (node.zone.clone(), node.currency);
                let (budgets, used) = (node.budgets.clone(), node.used.clone());
                let kept = StoredGroup { parent, zone, currency, budgets, used };
                Row::Group { group: group.clone(), kept }
            }
            LimitKey::Hold(attempt) => {
                Row::Hold { attempt: *attempt, hold: Box::new(self.holdings.get(attempt)?.clone()) }
            }
            LimitKey::Transfer(key) => Row::Transfer { transfer: self.transfers.get(key)?.clone() },
            LimitKey::Weights => Row::Weights { weights: self.weights.clone() },
        };
        Some(LimitRow(row))
    }

    /// The limits from their rows. `tree` has every group with the one above it: groups without a row have no limits
    /// and have used nothing.
    ///
    /// # Errors
    /// [`LimitsError`] where the tree cannot be.
    pub fn from_rows(
        tree: impl IntoIterator<Item = (GroupName, Option<GroupName>)>,
        rows: impl IntoIterator<Item = LimitRow>,
    ) -> Result<Self, LimitsError> {
        let mut stored = Stored::default();
        let mut kept = BTreeMap::new();
        for LimitRow(row) in rows {
            match row {
                Row::Group { group, kept: row } => drop(kept.insert(group, row)),
                Row::Hold { attempt, hold } => drop(stored.holdings.insert(attempt, *hold)),
                Row::Transfer { transfer } => drop(stored.transfers.insert(transfer.key.clone(), transfer)),
                Row::Weights { weights } => stored.weights = weights,
            }
        }
        for (group, parent) in tree {
            let row = kept.remove(&group).unwrap_or_default();
            stored.groups.insert(group, StoredGroup { parent, ..row });
        }
        let limits = stored.groups.values().flat_map(|group| &group.budgets).map(|budget| budget.created);
        stored.created = limits.chain(stored.holdings.values().map(|hold| hold.made)).max().unwrap_or(0);
        Self::try_from(stored)
    }
}
