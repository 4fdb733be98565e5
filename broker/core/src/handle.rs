//! Commands give events. Each handler checks everything first and emits only then, so that a refused command
//! changes nothing.

mod accounting;
mod admin;
mod instances;
mod outcome;
mod place;
mod preempt;
mod queue;
mod report;
mod session;
mod submit;
mod tick;
mod usage;

pub use preempt::MAX_DISPLACEMENTS;

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_policies::{CloudOffer, Gatekeeper, Places, Policy, QueuedJob, Snapshot};
use spillway_types::UnixMs;

use crate::federation::Turn;
use crate::{Command, Refusal, Reply, State};

/// What could run here if everything were free: made when it is first needed, forgotten when nodes or offers change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    all: Option<Arc<Places>>,
    launchable: Option<Arc<Places>>,
}

impl Known {
    /// Nodes have changed: what clouds would launch has not.
    pub(crate) fn forget_nodes(&mut self) {
        self.all = None;
    }

    /// Offers have changed, or what rules look at.
    pub(crate) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Whether some offer could run the job, whatever nodes there are.
    fn could_launch(
        &mut self,
        offers: &[CloudOffer],
        gate: impl FnOnce() -> Option<Gatekeeper>,
        job: &QueuedJob,
    ) -> bool {
        let places = self.launchable.get_or_insert_with(|| {
            Arc::new(Places::of(&Snapshot {
                now: job.since,
                queue: vec![],
                nodes: vec![],
                offers: offers.to_vec(),
                groups: BTreeMap::new(),
                data: spillway_types::DataMap::default(),
                gate: gate(),
                policy: Policy::default(),
            }))
        });
        places.could_ever_run(job).is_ok()
    }

    fn places(
        &mut self,
        (state, offers): (&State, &[CloudOffer]),
        gate: impl FnOnce() -> Option<Gatekeeper>,
        now: UnixMs,
    ) -> &Places {
        let empty = || Snapshot { gate: gate(), ..crate::snapshot::when_empty(state, offers, now) };
        let make = || Arc::new(Places::of(&empty()));
        self.all.get_or_insert_with(make)
    }
}

pub(crate) fn handle(turn: &mut Turn<'_>, command: Command) -> Result<Reply, Refusal> {
    match command {
        Command::StartBroker { deployment } => Ok(session::start_broker(turn, deployment)),
        Command::DeclareSite(site) => Ok(admin::declare_site(turn, site)),
        Command::DeclarePool(pool) => admin::declare_pool(turn, pool),
        Command::DeclareGroup(group) => admin::declare_group(turn, group),
        Command::SetBudget { group, limit_micros, stated } => {
            admin::set_budget(turn, &group, limit_micros, stated)
        }
        Command::ClosePeriod { period } => accounting::close_period(turn, period),
        Command::FreezePeriod { period, digest } => accounting::freeze_period(turn, period, digest),
        Command::Correct { entry, becomes, by, because } => {
            accounting::correct(turn, &entry, becomes, by, because)
        }
        Command::SetRates { pool, effective, card } => accounting::set_rates(turn, pool, effective, card),
        Command::SetExchange { currency, from, rate } => accounting::set_exchange(turn, currency, from, rate),
        Command::RemoveGroup { group } => admin::remove_group(turn, &group),
        Command::ChangeLimits(change) => admin::change_limits(turn, *change),
        Command::DeclareUser { user, role, groups } => admin::declare_user(turn, user, role, groups),
        Command::IssueToken { user, hash } => admin::issue_token(turn, user, hash),
        Command::IssueJoinToken { hash, pool, lifetime, issuer } => {
            admin::issue_join_token(turn, hash, pool, lifetime, &issuer)
        }
        Command::Enrol { proof, key_hash, hostname } => session::enrol(turn, &proof, key_hash, hostname),
        Command::Connect { node, boot_nonce, inventory, observed, spool } => {
            session::connect(turn, node, boot_nonce, inventory, (&observed, spool))
        }
        Command::Disconnect { node, epoch } => session::disconnect(turn, node, epoch),
        Command::StepNode { node, step } => session::step_node(turn, node, step),
        Command::Report { node, epoch, first, reports } => report::report(turn, node, epoch, first, reports),
        Command::StateUsage { node, epoch, sent, age_ms } => usage::state(turn, node, epoch, sent, age_ms),
        Command::DeclareSilent { attempt, rank } => Ok(outcome::declare_silent(turn, attempt, rank)),
        Command::Interrupt { node } => session::interrupt(turn, node),
        Command::Submit { spec, user, key } => submit::submit(turn, spec, &user, key),
        Command::Cancel { job, user } => submit::cancel(turn, job, &user),
        Command::Hold { job, user } => queue::hold(turn, job, &user),
        Command::Release { job, user } => queue::release(turn, job, &user),
        Command::Top { job, user } => queue::top(turn, job, &user),
        Command::Preempt { attempt, because } => preempt::preempt(turn, attempt, because),
        Command::Place { decisions, endpoint } => Ok(place::place(turn, decisions, &endpoint)),
        Command::StepInstance { instance, what } => instances::step(turn, instance, what),
        Command::RepriceInstances => Ok(instances::reprice(turn)),
        Command::Tick { limits } => Ok(tick::tick(turn, limits)),
        Command::ForgetOldKeys => Ok(tick::forget_old_keys(turn)),
    }
}
