//! Deciding what is missing and carrying it out.

use spillway_tunnel::protocol::{Lease, PartEnd};
use spillway_types::{Allocation, DurationMs};

use super::super::report::Known;
use super::Engine;
use crate::executor::{Order, bare_spec, spec_of};
use crate::part::PartKey;
use crate::reconcile::{Action, Holding, Situation, Stage, key_of, reconcile};

impl Engine {
    pub(super) fn decide(&mut self, now_ms: u64) {
        let situation = Situation {
            desired: self.desired.as_deref(),
            parts: &self.parts,
            deadlines: self.book.deadlines(),
            now_ms,
        };
        for action in reconcile(&situation) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Stage(part) => self.stage(part),
            Action::Prepare(part) => self.order_new(part, Order::Prepare),
            Action::Start(part, deadline_ms) => match self.parts.get_mut(&part) {
                Some(prepared) if prepared.stage == Stage::Prepared => {
                    prepared.stage = Stage::Busy;
                    self.orders.push(Order::Start(part, deadline_ms));
                }
                Some(_) | None => self.order_new(part, |spec| Order::Run(spec, deadline_ms)),
            },
            Action::Extend(part, deadline_ms) => match self.executor.extend(part, deadline_ms) {
                Ok(()) => self.set_stage(part, Stage::Running { deadline_ms, stopping: false }),
                Err(error) => tracing::error!(%part, %error, "a lease cannot be extended"),
            },
            Action::Stop(part, grace) => self.stop(part, grace),
            Action::Refuse(part, message) => self.refuse(part, message),
            Action::Forget(part) => {
                self.executor.forget(part);
                self.datasets.release(&part);
                self.spool.forget(&part);
                self.parts.remove(&part);
                self.known.remove(&part);
            }
        }
    }

    pub(super) fn stage_of(&self, part: PartKey) -> Option<Stage> {
        self.parts.get(&part).map(|holding| holding.stage)
    }

    pub(super) fn set_stage(&mut self, part: PartKey, stage: Stage) {
        if let Some(holding) = self.parts.get_mut(&part) {
            holding.stage = stage;
        }
    }

    /// Orders a part that has no folder yet, unless the node does not have what it was given.
    fn order_new(&mut self, part: PartKey, order: impl FnOnce(Box<crate::part::Spec>) -> Order) {
        let inputs = self.take_inputs(part);
        let Some(lease) = self.desired.iter().flatten().find(|lease| key_of(lease) == part) else { return };
        match spec_of(lease, &self.inventory.capacity.accelerators, self.executor.boot(), inputs) {
            Ok(spec) => {
                let allocation = lease.allocation.clone();
                self.parts.insert(part, Holding { stage: Stage::Busy, allocation });
                self.orders.push(order(Box::new(spec)));
            }
            Err(message) => self.refuse(part, message),
        }
    }

    pub(super) fn refuse(&mut self, part: PartKey, message: String) {
        let lease = self.desired.iter().flatten().find(|lease| key_of(lease) == part).cloned();
        let Some(lease) = lease else { return };
        tracing::warn!(%part, message, "a lease is refused");
        self.end_unbegun(&lease, PartEnd::NotStarted { message });
    }

    /// Orders that the end of a part which has no folder is written down.
    pub(super) fn end_unbegun(&mut self, lease: &Lease, end: PartEnd) {
        let spec = Box::new(bare_spec(lease, self.executor.boot()));
        // It holds nothing of the node.
        let allocation = Allocation::default();
        self.parts.insert(key_of(lease), Holding { stage: Stage::Busy, allocation });
        self.orders.push(Order::Refuse(spec, end));
    }

    /// Asks a part to stop. Where the disk refuses, the next turn asks again.
    pub(super) fn stop(&mut self, part: PartKey, grace: Option<DurationMs>) {
        if let Some(Stage::Staging | Stage::Staged) = self.stage_of(part) {
            return self.stop_bringing(part);
        }
        match self.executor.stop(part, grace) {
            Ok(()) => {
                let stage = match self.parts.get(&part).map(|holding| holding.stage) {
                    Some(Stage::Running { deadline_ms, .. }) => {
                        Stage::Running { deadline_ms, stopping: true }
                    }
                    Some(Stage::Prepared) => Stage::Busy,
                    Some(other @ (Stage::Staging | Stage::Staged | Stage::Busy | Stage::Ended { .. })) => {
                        other
                    }
                    None => return,
                };
                self.set_stage(part, stage);
            }
            Err(error) => {
                tracing::error!(%part, %error, "a part cannot be asked to stop; it ends with its lease")
            }
        }
    }

    /// Hands the collected orders to the executor, one batch at a time. What was seen of the broker is durable
    /// before anything starts because of it.
    pub(super) fn begin_batch(&mut self) {
        if self.under_way.batch || self.orders.is_empty() {
            return;
        }
        self.under_way.batch = true;
        let orders = std::mem::take(&mut self.orders);
        let memory = self.memory.clone();
        let path = self.state.join("agent.json");
        self.executor.carry_out(orders, move || memory.save(&path));
    }

    pub(super) fn note_acknowledged(&mut self) {
        for (part, holding) in &mut self.parts {
            if holding.stage == (Stage::Ended { acknowledged: false }) && self.spool.end_acknowledged(part) {
                holding.stage = Stage::Ended { acknowledged: true };
            }
        }
    }

    pub(super) fn known_of(&self, part: &PartKey) -> Option<&Known> {
        self.known.get(part)
    }
}
