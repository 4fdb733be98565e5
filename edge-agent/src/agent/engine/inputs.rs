//! What parts read: bringing it before they are ready to start, and saying what came over the network for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spillway_tunnel::protocol::{Lease, PartEnd};
use spillway_types::{Allocation, DatasetName};
use tokio_util::sync::CancellationToken;

use super::super::report;
use super::Engine;
use crate::datasets::{Brought, Wanted};
use crate::executor::spec_of;
use crate::part::PartKey;
use crate::reconcile::{Holding, Stage, key_of};
use crate::spool::SpoolError;

/// A part whose inputs are being brought, or are here while it has not begun.
#[derive(Debug)]
pub(super) struct Bringing {
    /// What it is to run.
    lease: Lease,
    /// Ends the bringing.
    cancel: CancellationToken,
    /// Where each dataset is, once all are here.
    paths: BTreeMap<DatasetName, PathBuf>,
}

impl Engine {
    /// Begins to bring what a part reads, unless the node cannot run it anyway.
    pub(super) fn stage(&mut self, part: PartKey) {
        let Some(lease) = self.desired.iter().flatten().find(|lease| key_of(lease) == part).cloned() else {
            return;
        };
        let accelerators = &self.inventory.capacity.accelerators;
        if let Err(message) = spec_of(&lease, accelerators, self.executor.boot(), BTreeMap::new()) {
            return self.refuse(part, message);
        }
        let wanted = lease.inputs.iter().map(|input| {
            let last = self.last_of(part, &input.dataset);
            Wanted { input: input.clone(), last }
        });
        let cancel = self.datasets.bring(part, wanted.collect());
        self.parts.insert(part, Holding { stage: Stage::Staging, allocation: lease.allocation.clone() });
        self.bringing.insert(part, Bringing { lease, cancel, paths: BTreeMap::new() });
    }

    /// How far a part has got a dataset: the newest pass, and the byte behind the last that came.
    fn last_of(&self, part: PartKey, dataset: &DatasetName) -> Option<(u32, u64)> {
        let said = self.spool.reported().get(&part).and_then(|said| said.moved_of(dataset));
        let said = said.map(|said| (said.pass, said.to_bytes));
        let moves = self.moves.iter().filter(|it| it.part == part && it.dataset == *dataset);
        moves.map(|it| (it.pass, it.to())).chain(said).max()
    }

    /// Where the inputs of a part are that begins now.
    pub(super) fn take_inputs(&mut self, part: PartKey) -> BTreeMap<DatasetName, PathBuf> {
        self.bringing.remove(&part).map(|bringing| bringing.paths).unwrap_or_default()
    }

    /// Stops a part that has not begun: at once, or when its bringing has stopped.
    pub(super) fn stop_bringing(&mut self, part: PartKey) {
        match self.bringing.get(&part) {
            Some(bringing) if self.stage_of(part) == Some(Stage::Staging) => {
                bringing.cancel.cancel();
                // Nothing of it runs: what it was given is free.
                self.parts.insert(part, Holding { stage: Stage::Busy, allocation: Allocation::default() });
            }
            Some(_) | None => self.end_bringing(part, PartEnd::Stopped),
        }
    }

    fn end_bringing(&mut self, part: PartKey, end: PartEnd) {
        if let Some(bringing) = self.bringing.remove(&part) {
            self.end_unbegun(&bringing.lease, end);
        }
    }

    pub(super) fn take_brought(&mut self, news: Brought) {
        match news {
            Brought::Moving(begun) => self.moves.push(begun),
            Brought::Ready(part, paths) if self.stage_of(part) == Some(Stage::Staging) => {
                if let Some(bringing) = self.bringing.get_mut(&part) {
                    bringing.paths = paths;
                }
                self.set_stage(part, Stage::Staged);
            }
            Brought::Failed(part, message) if self.stage_of(part) == Some(Stage::Staging) => {
                tracing::warn!(%part, message, "what a part reads cannot be brought");
                self.end_bringing(part, PartEnd::NotStarted { message });
            }
            Brought::Ready(part, _) | Brought::Failed(part, _) | Brought::Left(part) => {
                self.end_bringing(part, PartEnd::Stopped);
            }
        }
    }

    /// Forgets parts that have not begun: the broker lists them again to the next agent.
    pub(super) fn abandon_bringing(&mut self) {
        for (part, bringing) in std::mem::take(&mut self.bringing) {
            bringing.cancel.cancel();
            self.parts.remove(&part);
        }
    }

    /// Says what came over the network since it was last said. It stands before everything else that happens to the
    /// part because of it.
    pub(super) fn report_moves(&mut self) -> Result<(), SpoolError> {
        for at in 0..self.moves.len() {
            let Some(begun) = self.moves.get(at) else { break };
            let said = self.spool.reported().get(&begun.part).and_then(|said| said.moved_of(&begun.dataset));
            if let Some(event) = report::moved(begun, said) {
                self.spool.append(&event)?;
            }
        }
        Ok(())
    }

    /// Forgets what the broker knows to have come.
    pub(super) fn forget_moves(&mut self) {
        let acknowledged = self.spool.acknowledged();
        let (spool, parts) = (&mut self.spool, &self.parts);
        let mut gone = Vec::new();
        self.moves.retain(|begun| {
            let said = spool.reported().get(&begun.part).and_then(|said| said.moved_of(&begun.dataset));
            let known = begun.is_over()
                && (begun.to() == begun.from
                    || said.is_some_and(|said| {
                        said.number <= acknowledged && (said.pass, said.to_bytes) >= (begun.pass, begun.to())
                    }));
            if known && let Err(error) = begun.forget() {
                tracing::warn!(part = %begun.part, %error, "a record of what was downloaded cannot be removed");
            }
            if known {
                gone.push(begun.part);
            }
            !known
        });
        gone.retain(|part| !parts.contains_key(part) && !self.moves.iter().any(|begun| begun.part == *part));
        gone.iter().for_each(|part| spool.forget(part));
    }
}
