//! The task behind the engine: takes what waits, applies it, writes it down, answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_core::{Changes, Command, Federation, Key, Reply};
use spillway_policies::{Explanation, Policy};
use spillway_store::{Batch, JournalRow, Store};
use spillway_types::{JobId, NodeId};
use tokio::sync::{mpsc, watch};

use super::{Answer, EngineError, Explanations, FollowFn, Mode, NodeWakers, ReadFn, Request, Unseen, View};
use crate::clock::{Clock, RealIds};
use crate::crash;

/// Most requests that share one transaction: past it the wait for the others outweighs the saved syncs.
const MAX_BATCH: usize = 512;
/// How long to wait before the state is loaded again after the store failed twice.
const RELOAD_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// Most rows that are kept for whoever follows, some 40 MB: past it everything counts as changed. A federation of
/// 62,500 nodes with 100,000 jobs that wait has half of that.
const MAX_UNSEEN: usize = 400_000;

pub(super) struct Worker {
    federation: Federation,
    store: Store,
    clock: Clock,
    ids: RealIds,
    policy: Policy,
    explanations: BTreeMap<JobId, Explanation>,
    unseen: Unseen,
    revised: watch::Sender<u64>,
    nodes: NodeWakers,
    mode: Arc<watch::Sender<Mode>>,
}

/// Answers that wait for the commit.
type Answers = Vec<(Answer, Result<Reply, EngineError>)>;

/// Reads that wait for the commit.
enum Reader {
    Once(ReadFn),
    Follower(FollowFn),
}

impl Worker {
    pub(super) fn new(
        federation: Federation,
        store: Store,
        clock: Clock,
        policy: Policy,
        revised: watch::Sender<u64>,
        shared: (NodeWakers, Arc<watch::Sender<Mode>>),
    ) -> Self {
        let (nodes, mode) = shared;
        let ids = RealIds::new(clock);
        Self {
            federation,
            store,
            clock,
            ids,
            policy,
            explanations: BTreeMap::new(),
            unseen: Unseen::Everything,
            revised,
            nodes,
            mode,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(MAX_BATCH);
        while inbox.recv_many(&mut requests, MAX_BATCH).await > 0 {
            let (mut answers, mut journal, mut reads) = (Answers::new(), vec![], vec![]);
            for request in requests.drain(..) {
                self.take(request, &mut answers, &mut journal, &mut reads);
            }
            if !journal.is_empty() {
                self.commit(journal, &mut answers).await;
            }
            for (answer, result) in answers {
                // Whoever asked may have gone away; what was done stays done.
                answer.send(result).ok();
            }
            for read in reads {
                match read {
                    Reader::Once(read) => read(&self.view()),
                    Reader::Follower(read) => {
                        let unseen = std::mem::replace(&mut self.unseen, Unseen::Rows(BTreeSet::new()));
                        read(&self.view(), unseen);
                    }
                }
            }
        }
    }

    fn take(
        &mut self,
        request: Request,
        answers: &mut Answers,
        journal: &mut Vec<JournalRow>,
        reads: &mut Vec<Reader>,
    ) {
        match request {
            Request::Command(command, answer) => {
                let result = self.handle(*command, journal);
                answers.push((answer, result));
            }
            Request::Read(read) => reads.push(Reader::Once(read)),
            Request::Follow(read) => reads.push(Reader::Follower(read)),
            Request::Offers(offers) => self.federation.set_offers(offers),
            Request::Data(data) => self.federation.set_data(*data),
            Request::Gate(gate) => self.federation.set_gate(gate),
            Request::Explanations(Explanations::OfAll(explanations)) => self.explanations = explanations,
            Request::Explanations(Explanations::OfNew(explanations)) => {
                self.explanations.extend(explanations)
            }
        }
    }

    fn handle(&mut self, command: Command, journal: &mut Vec<JournalRow>) -> Result<Reply, EngineError> {
        if let Mode::Recovery { evidence } = &*self.mode.borrow() {
            return Err(EngineError::Recovery(Mode::recovery_message(evidence)));
        }
        let at = self.clock.now();
        let outcome = self.federation.handle(command, at, &mut self.ids)?;
        if !outcome.events.is_empty() {
            journal.push(JournalRow { seq: outcome.journal, at, events: outcome.events });
        }
        Ok(outcome.reply)
    }

    async fn commit(&mut self, journal: Vec<JournalRow>, answers: &mut Answers) {
        self.federation.check();
        let changes = self.federation.take_changes();
        let (nodes, jobs) = (self.touched_nodes(&changes), ended_jobs(&changes));
        self.note(&changes.touched);
        let points: Vec<&str> = journal.iter().flat_map(|row| crash::points(&row.events)).collect();
        let batch = Batch { state: self.federation.state(), changes, journal };
        match self.store.commit(batch).await {
            Ok(()) => {
                points.into_iter().for_each(crash::point);
                for job in jobs {
                    self.explanations.remove(&job);
                }
                self.revised.send_modify(|revision| *revision += 1);
                self.wake(&nodes);
            }
            Err(error) => {
                tracing::error!(%error, commands = answers.len(), "nothing of this batch is written; the state is loaded again");
                let error = Arc::new(error);
                for (_, result) in answers.iter_mut() {
                    *result = Err(EngineError::Store(Arc::clone(&error)));
                }
                self.reload().await;
            }
        }
    }

    async fn reload(&mut self) {
        loop {
            match self.store.load().await {
                Ok(state) => {
                    self.unseen = Unseen::Everything;
                    return self.federation.reset(state);
                }
                Err(error) => tracing::error!(%error, "the state cannot be loaded; trying again"),
            }
            tokio::time::sleep(RELOAD_PAUSE).await;
        }
    }

    fn view(&self) -> View<'_> {
        View {
            federation: &self.federation,
            explanations: &self.explanations,
            policy: &self.policy,
            now: self.clock.now(),
        }
    }

    /// Keeps what has changed for whoever follows.
    fn note(&mut self, touched: &BTreeSet<Key>) {
        let Unseen::Rows(rows) = &mut self.unseen else { return };
        rows.extend(touched.iter().cloned());
        if rows.len() > MAX_UNSEEN {
            self.unseen = Unseen::Everything;
        }
    }

    /// Nodes where something else should be true now.
    fn touched_nodes(&self, changes: &Changes) -> BTreeSet<NodeId> {
        let state = self.federation.state();
        let mut nodes = BTreeSet::new();
        for key in &changes.touched {
            if let Key::Node(id) = key {
                nodes.insert(*id);
            } else if let Key::Attempt(id) = key {
                let parts = state.attempts.get(id).into_iter().flat_map(|attempt| &attempt.parts);
                nodes.extend(parts.filter_map(|part| part.node));
            }
        }
        nodes
    }

    fn wake(&self, touched: &BTreeSet<NodeId>) {
        let nodes = self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for waker in touched.iter().filter_map(|node| nodes.get(node)) {
            waker.notify_one();
        }
    }
}

fn ended_jobs(changes: &Changes) -> Vec<JobId> {
    changes.ended_jobs.iter().map(|job| job.id).collect()
}
