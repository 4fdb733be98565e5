//! Events give state. Every change of the state is here and nowhere else.
//!
//! Applying never asks whether something may happen: the handlers did. What does not fit is a defect, which
//! is reported; the state stays as consistent as it was.

mod attempts;
mod egress;
mod instances;
mod jobs;
mod nodes;
mod periods;

use spillway_ledger::calendar::Day;
use spillway_ledger::journal::Statement;
use spillway_ledger::limits::{Adjustment, LimitKey};
use spillway_ledger::rates::{Card, ExchangeRate};
use spillway_ledger::{Account, Amendment, Entry, EntryKind};
use spillway_types::{Currency, GroupName, IllegalTransition, PoolName, UnixMs};

use crate::event::Corrected;
use crate::{Event, Key, State};

/// An event did not fit the state: a defect of a handler, or a journal that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A step that a state machine does not allow.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The event is about something that is not there.
    #[error("no {0}")]
    Missing(String),
    /// The ledger refused an entry.
    #[error("ledger: {0}")]
    Ledger(String),
}

impl ApplyError {
    pub(crate) fn describe(&self, event: &Event) -> String {
        format!("{self} while applying {event:?}")
    }

    pub(crate) fn missing(what: impl std::fmt::Display) -> Self {
        Self::Missing(what.to_string())
    }
}

impl State {
    /// Applies one journal entry: its events in order.
    ///
    /// # Errors
    /// [`ApplyError`] where the journal does not continue this state.
    pub fn replay(&mut self, journal: u64, at: UnixMs, events: &[Event]) -> Result<(), ApplyError> {
        self.journal = journal;
        events.iter().try_for_each(|event| self.apply(at, event))
    }

    /// Applies one event that happened at `at`.
    ///
    /// # Errors
    /// [`ApplyError`] where the event does not fit.
    pub(crate) fn apply(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        match event {
            Event::BrokerStarted { incarnation, deployment } => {
                (self.incarnation, self.deployment) = (*incarnation, deployment.clone());
                self.touch(Key::Meta);
                self.begin_capacity(at);
                Ok(())
            }
            Event::SiteDeclared(site) => {
                self.touch(Key::Site(site.name.clone()));
                self.sites.insert(site.name.clone(), site.clone());
                Ok(())
            }
            Event::PoolDeclared(pool) => {
                self.touch(Key::Pool(pool.name.clone()));
                self.pools.insert(pool.name.clone(), pool.clone());
                Ok(())
            }
            Event::GroupDeclared(group) => self.apply_group(group, at),
            Event::LimitsChanged(change) => self.apply_limits(change, at),
            Event::GroupRemoved { group } => self.remove_group(group),
            Event::LeaseExtended { attempt, lease } => self.extend_lease(*attempt, *lease, at),
            Event::UserDeclared(user) => {
                self.touch(Key::User(user.name.clone()));
                self.users.insert(user.name.clone(), user.clone());
                Ok(())
            }
            Event::PoolClosed(_) | Event::PeriodClosed { .. } | Event::PeriodFrozen { .. } => {
                self.apply_to_period(at, event)
            }
            Event::EntryCorrected(corrected) => {
                self.correct(corrected, at);
                Ok(())
            }
            Event::RatesSet { pool, effective, card } => self.set_rates(pool, *effective, card),
            Event::ExchangeSet { currency, from, rate } => self.set_exchange(*currency, *from, *rate),
            Event::TokenIssued(token) => {
                self.touch(Key::Token(token.hash.clone()));
                self.tokens.insert(token.hash.clone(), token.clone());
                Ok(())
            }
            Event::JoinTokenIssued(token) => {
                self.touch(Key::JoinToken(token.hash.clone()));
                self.join_tokens.insert(token.hash.clone(), token.clone());
                Ok(())
            }
            Event::NodeEnrolled { .. }
            | Event::NodeConnected { .. }
            | Event::NodeStepped { .. }
            | Event::SpoolAcked { .. }
            | Event::UsageMarkBegun { .. }
            | Event::UsageStated { .. } => self.apply_to_node(at, event),
            Event::JobSubmitted { .. } | Event::JobCancelled { .. } | Event::SubmissionsForgotten { .. } => {
                self.apply_to_job(at, event)
            }
            Event::JobHeld { .. } | Event::JobReleased { .. } | Event::JobTopped { .. } => {
                self.apply_to_queue(at, event)
            }
            Event::AttemptPlaced(_)
            | Event::AttemptLeased { .. }
            | Event::PartPrepared { .. }
            | Event::PartStarted { .. }
            | Event::AttemptActivated { .. }
            | Event::UsageCharged { .. }
            | Event::BytesMoved { .. }
            | Event::PartEnded { .. }
            | Event::PartSilent { .. }
            | Event::AttemptStopped { .. }
            | Event::AttemptDisplaced { .. }
            | Event::AttemptFinishing { .. }
            | Event::AttemptEnded { .. }
            | Event::AttemptSettled { .. } => self.apply_to_attempt(at, event),
            Event::InstanceIntended(_)
            | Event::InstanceStepped { .. }
            | Event::InstanceRepriced { .. }
            | Event::InstanceGone { .. } => self.apply_to_instance(at, event),
        }
    }

    fn set_rates(&mut self, pool: &PoolName, effective: UnixMs, card: &Card) -> Result<(), ApplyError> {
        self.touch(Key::Rates(pool.clone()));
        let zone = self.periods.zone().clone();
        let set = self.rates.set(pool.clone(), effective, card.clone(), None, &zone);
        set.map_err(|error| ApplyError::Ledger(error.to_string()))
    }

    fn set_exchange(&mut self, currency: Currency, from: Day, rate: ExchangeRate) -> Result<(), ApplyError> {
        self.touch(Key::Currency(currency));
        let set = self.currencies.set(currency, from, rate);
        set.map_err(|error| ApplyError::Ledger(error.to_string()))
    }

    fn remove_group(&mut self, group: &GroupName) -> Result<(), ApplyError> {
        self.limits.remove_group(group).map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.book.remove_group(group).map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.groups.remove(group);
        self.touch(Key::Group(group.clone()));
        self.touch(Key::Limit(LimitKey::Group(group.clone())));
        Ok(())
    }

    fn apply_group(&mut self, group: &crate::entity::Group, at: UnixMs) -> Result<(), ApplyError> {
        let zone = self.limits.zone(&group.name).cloned().unwrap_or_default();
        self.limits
            .set_group(group.name.clone(), group.parent.clone(), zone, at)
            .map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.book
            .set_group(group.name.clone(), group.parent.clone(), group.budget_micros)
            .map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.touch(Key::Group(group.name.clone()));
        self.groups.insert(group.name.clone(), group.clone());
        Ok(())
    }

    pub(crate) fn touch(&mut self, key: Key) {
        self.changes.touched.insert(key);
    }

    /// Posts a correction. What is charged more than before was not held: it counts as overshoot.
    fn correct(&mut self, corrected: &Corrected, at: UnixMs) {
        let Corrected { reversal, replacement, .. } = corrected;
        if let Some(Amendment::Reverses { key }) = reversal.amends() {
            self.corrected.insert(key.clone());
        }
        let (subject, when) = (reversal.subject().clone(), reversal.effective_at().unwrap_or(at));
        let class = reversal.usage().and_then(|usage| usage.class.clone());
        let mut more = Adjustment { class, ..Adjustment::default() };
        for entry in std::iter::once(reversal).chain(replacement) {
            self.book.apply(entry);
            self.note_use(entry, at);
            more.micros = more.micros.saturating_add(entry.spend_micros());
            more.gpu_ms = more.gpu_ms.saturating_add(entry.signed_gpu_ms());
            self.changes.entries.push((self.journal, entry.clone()));
        }
        self.adjust_limits((&subject.group, &subject.site), &more, when);
        self.overshoot(subject.group, more.micros);
    }

    /// A group spent what was not held for it.
    fn overshoot(&mut self, group: GroupName, micros: i64) {
        let beyond = self.overshoot_micros.entry(group.clone()).or_default();
        *beyond = beyond.saturating_add(micros.max(0));
        self.touch(Key::Group(group));
    }

    /// Posts a statement: what it says that groups spend counts in their limits in the month that it is about.
    pub(crate) fn post_statement(&mut self, statement: &Statement, at: UnixMs) {
        self.book.post(statement.postings());
        let effective = statement.effective_at(self.periods.zone()).min(at);
        for posting in statement.postings() {
            if let Account::Spend(group) = &posting.account {
                let used = Adjustment { micros: posting.micros, ..Adjustment::default() };
                self.adjust_limits((group, statement.site()), &used, effective);
                self.overshoot(group.clone(), posting.micros);
            }
        }
        self.changes.statements.push((self.journal, statement.clone()));
    }

    pub(crate) fn post(&mut self, entry: Entry, at: UnixMs) {
        self.book.apply(&entry);
        self.note_use(&entry, at);
        if entry.kind() == EntryKind::Overhead {
            let subject = entry.subject();
            let used = Adjustment { micros: entry.spend_micros(), ..Adjustment::default() };
            self.adjust_limits((&subject.group, &subject.site), &used, at);
        }
        if matches!(entry.kind(), EntryKind::Overrun | EntryKind::Overhead | EntryKind::Egress) {
            self.overshoot(entry.subject().group.clone(), entry.beyond_hold_micros());
        }
        self.changes.entries.push((self.journal, entry));
    }
}
