//! The machine: a command in, a reply and events out.

use std::sync::Arc;

use spillway_policies::{CloudOffer, Gate, Gatekeeper};
use spillway_types::{DataMap, IdSource, UnixMs};

use crate::apply::ApplyError;
use crate::handle::{self, Known};
use crate::{Command, Event, Refusal, Reply, State, invariants};

/// The state with what is needed to judge commands.
#[derive(Debug, Clone, Default)]
pub struct Federation {
    state: State,
    offers: Vec<CloudOffer>,
    data: DataMap,
    gate: Option<Arc<dyn Gate>>,
    known: Known,
    violations: Vec<String>,
    violation_count: u64,
}

/// What a command gave: a reply, and the events that were applied for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For the caller.
    pub reply: Reply,
    /// To be written down before the reply is given, as one journal entry; empty where nothing changed.
    pub events: Vec<Event>,
    /// The number of that journal entry.
    pub journal: u64,
}

impl Federation {
    /// Goes on from `state`.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self { state, ..Self::default() }
    }

    /// Goes back to what was last written, after a write failed. What clouds would launch stays known.
    pub fn reset(&mut self, state: State) {
        self.state = state;
        self.known.forget_all();
    }

    /// What is true now.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes out what changed since the last write.
    pub fn take_changes(&mut self) -> crate::Changes {
        self.state.take_changes()
    }

    /// Tells what clouds would launch now.
    pub fn set_offers(&mut self, offers: Vec<CloudOffer>) {
        self.offers = offers;
        self.known.forget_all();
    }

    /// What clouds would launch now.
    #[must_use]
    pub fn offers(&self) -> &[CloudOffer] {
        &self.offers
    }

    /// Tells where data lies.
    pub fn set_data(&mut self, data: DataMap) {
        self.data = data;
        self.known.forget_all();
    }

    /// Where data lies.
    #[must_use]
    pub const fn data(&self) -> &DataMap {
        &self.data
    }

    /// Tells who says where jobs may run; without one every job may run anywhere.
    pub fn set_gate(&mut self, gate: Option<Arc<dyn Gate>>) {
        self.gate = gate;
        self.known.forget_all();
    }

    /// Who says where jobs may run, with what is known now of groups, data and places.
    #[must_use]
    pub fn gatekeeper(&self) -> Option<Gatekeeper> {
        crate::snapshot::gatekeeper(&self.state, &self.data, self.gate.as_ref())
    }

    /// The newest invariants that were found broken. Always empty unless there is a defect here.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// How many invariants were found broken since the start.
    #[must_use]
    pub const fn violation_count(&self) -> u64 {
        self.violation_count
    }

    /// Checks `command` and applies what it gives.
    ///
    /// # Errors
    /// [`Refusal`] where the state does not allow it; nothing changed then.
    pub fn handle(
        &mut self,
        command: Command,
        now: UnixMs,
        ids: &mut dyn IdSource,
    ) -> Result<Outcome, Refusal> {
        let before = self.state.changes.touched.len();
        let mut turn = Turn {
            state: &mut self.state,
            offers: &self.offers,
            data: &self.data,
            gate: self.gate.as_ref(),
            known: &mut self.known,
            now,
            ids,
            events: vec![],
            defects: vec![],
        };
        let reply = handle::handle(&mut turn, command);
        let (events, defects) = (turn.events, turn.defects);
        if !defects.is_empty() {
            self.report(defects);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(refusal) => {
                debug_assert!(
                    events.is_empty() && before == self.state.changes.touched.len(),
                    "{refusal}: {events:?}"
                );
                return Err(refusal);
            }
        };
        Ok(Outcome { reply, events, journal: self.state.journal })
    }

    /// Evaluates the invariants on all that changed since the last write. Panics in debug builds where one is
    /// broken, and counts in release builds.
    pub fn check(&mut self) {
        let broken = invariants::check_changed(&self.state);
        self.report(broken);
    }

    fn report(&mut self, broken: Vec<String>) {
        debug_assert!(broken.is_empty(), "invariants broken: {broken:#?}");
        self.violation_count += broken.len() as u64;
        // The newest hundred are kept for people; more would only grow.
        self.violations.extend(broken);
        let excess = self.violations.len().saturating_sub(100);
        self.violations.drain(..excess);
    }
}

/// One command being handled.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) offers: &'a [CloudOffer],
    pub(crate) data: &'a DataMap,
    pub(crate) gate: Option<&'a Arc<dyn Gate>>,
    pub(crate) known: &'a mut Known,
    pub(crate) now: UnixMs,
    pub(crate) ids: &'a mut dyn IdSource,
    events: Vec<Event>,
    defects: Vec<String>,
}

impl Turn<'_> {
    /// Who says where jobs may run, as things are now.
    pub(crate) fn gatekeeper(&self) -> Option<Gatekeeper> {
        crate::snapshot::gatekeeper(self.state, self.data, self.gate)
    }

    /// Applies `event` and keeps it. All checks come before the first emit.
    pub(crate) fn emit(&mut self, event: Event) {
        if self.events.is_empty() {
            self.state.journal += 1;
        }
        if let Err(error) = self.state.apply(self.now, &event) {
            self.defects.push(ApplyError::describe(&error, &event));
        }
        let changes_rules =
            matches!(event, Event::SiteDeclared(_) | Event::PoolDeclared(_) | Event::GroupDeclared(_));
        if changes_rules {
            self.known.forget_all();
        } else if matches!(event, Event::NodeConnected { .. } | Event::NodeStepped { .. }) {
            self.known.forget_nodes();
        }
        self.events.push(event);
    }
}
