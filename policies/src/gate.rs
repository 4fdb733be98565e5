//! The organisation's own word on which job may run where: asked for each shape of job at each place, before any
//! price is compared.
//!
//! The planner knows no rules: it asks a [`Gate`] and remembers the answer, and what is denied is no candidate for
//! anything. Whoever carries a plan out asks again. What the planner itself has no use for, but rules look at (the
//! groups above a group, what lies in a dataset, what a pool is labelled), comes along in [`Facts`].
//!
//! A gate only takes away: a job's own rules and a pool's groups hold with or without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use spillway_types::{
    ClassName, CloudName, Dataset, DatasetName, GpuQuantity, GroupName, HourlyRate, Market, PoolName,
    Resources, SiteKind, SiteName, UserName,
};

use crate::{CloudOffer, NodeView, QueuedJob};

/// Rules that say which job may run where. The same question gets the same answer as long as the rules stand.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Whether the job may run there.
    ///
    /// # Errors
    /// [`Refused`] names the rules that deny it.
    fn judge(&self, job: &GateJob<'_>, place: &GatePlace<'_>) -> Result<(), Refused>;

    /// Whether two users of one group may get different answers.
    fn tells_users_apart(&self) -> bool;
}

/// What rules see of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateJob<'a> {
    /// Who submitted it; none where that is not known yet.
    pub user: Option<&'a UserName>,
    /// The group that pays, then each group above it, up to the root.
    pub groups: Vec<&'a GroupName>,
    /// Its class.
    pub class: Option<&'a ClassName>,
    /// Its container image; none for a process.
    pub image: Option<&'a str>,
    /// Accelerators on all nodes together; a part of one counts as one.
    pub gpus: u32,
    /// Nodes that start together.
    pub nodes: u32,
    /// Jurisdictions that the job asks for; empty means all.
    pub residency: &'a [String],
    /// What it reads.
    pub inputs: Vec<&'a Dataset>,
}

/// What rules see of a place: a pool, or what a cloud would launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePlace<'a> {
    /// Its site.
    pub site: &'a SiteName,
    /// The pool; that of a cloud's region bears the region's name.
    pub pool: &'a PoolName,
    /// The site's kind.
    pub kind: SiteKind,
    /// The site's jurisdiction.
    pub jurisdiction: Option<&'a str>,
    /// The cloud; none elsewhere.
    pub cloud: Option<&'a CloudName>,
    /// The pool's labels.
    pub labels: Option<&'a BTreeSet<String>>,
    /// Groups that the pool is for, with those below them; none means all.
    pub groups: Option<&'a BTreeSet<GroupName>>,
    /// Whether the machine can be taken back.
    pub market: Market,
    /// What the job is charged there, all nodes together.
    pub rate: HourlyRate,
}

/// Why a job may not run at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Refused {
    /// Ids of the policies that deny it, in order; empty where none permits it.
    pub by: Vec<String>,
    /// What could not be found out, where that is why: what cannot be decided is denied.
    pub problem: Option<String>,
}

impl Refused {
    /// A denial because something could not be found out.
    #[must_use]
    pub const fn because(problem: String) -> Self {
        Self { by: Vec::new(), problem: Some(problem) }
    }
}

impl fmt::Display for Refused {
    /// A sentence for an explanation: ``denied by the access policy `residency-kr` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = || self.by.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        match (self.by.as_slice(), &self.problem) {
            ([], Some(problem)) => write!(f, "denied, since the access policies cannot decide: {problem}"),
            ([], None) => f.write_str("denied: no access policy permits it"),
            (_, Some(problem)) => write!(f, "denied, since the access policy {} fails: {problem}", named()),
            ([_], None) => write!(f, "denied by the access policy {}", named()),
            (_, None) => write!(f, "denied by the access policies {}", named()),
        }
    }
}

/// What rules look at beside jobs and places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The group above each group that has one.
    pub above: BTreeMap<GroupName, GroupName>,
    /// What is known of each dataset.
    pub datasets: BTreeMap<DatasetName, Dataset>,
    /// The labels of each pool that has some.
    pub labels: BTreeMap<PoolName, BTreeSet<String>>,
    /// The cloud of each site that is a region of one.
    pub clouds: BTreeMap<SiteName, CloudName>,
}

/// A gate, with the facts that its questions need.
#[derive(Debug, Clone)]
pub struct Gatekeeper {
    gate: Arc<dyn Gate>,
    facts: Facts,
}

impl PartialEq for Gatekeeper {
    /// The same gate, and the same facts: then the same answers.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.gate), Arc::as_ptr(&other.gate)) && self.facts == other.facts
    }
}

impl Gatekeeper {
    /// Asks `gate` with these facts.
    #[must_use]
    pub const fn new(gate: Arc<dyn Gate>, facts: Facts) -> Self {
        Self { gate, facts }
    }

    /// Whether a job may run on a node, at a price for all nodes together.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn admits_to_node(&self, job: &QueuedJob, node: &NodeView, rate: HourlyRate) -> Result<(), Refused> {
        let place = GatePlace {
            site: &node.site,
            pool: &node.pool,
            kind: node.kind,
            jurisdiction: node.jurisdiction.as_deref(),
            cloud: self.facts.clouds.get(&node.site),
            labels: self.facts.labels.get(&node.pool),
            groups: node.groups.as_ref(),
            market: node.market,
            rate,
        };
        self.gate.judge(&self.ask(job)?, &place)
    }

    /// Whether a job may run on instances of an offer, at a price for all nodes together.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn admits_to_offer(
        &self,
        job: &QueuedJob,
        offer: &CloudOffer,
        rate: HourlyRate,
    ) -> Result<(), Refused> {
        let pool = offer.site.as_str().parse::<PoolName>();
        let pool = pool.map_err(|error| Refused::because(error.to_string()))?;
        let place = GatePlace {
            site: &offer.site,
            pool: &pool,
            kind: SiteKind::Cloud,
            jurisdiction: offer.jurisdiction.as_deref(),
            cloud: Some(&offer.cloud),
            labels: self.facts.labels.get(&pool),
            groups: None,
            market: offer.terms.market,
            rate,
        };
        self.gate.judge(&self.ask(job)?, &place)
    }

    /// What rules may look at in a job and no other hard rule does: jobs that differ in it are different shapes.
    pub(crate) fn sees(&self, job: &QueuedJob) -> Seen {
        Seen {
            class: job.class.clone(),
            user: job.user.clone().filter(|_| self.gate.tells_users_apart()),
            inputs: job.inputs.clone(),
        }
    }

    fn ask<'a>(&'a self, job: &'a QueuedJob) -> Result<GateJob<'a>, Refused> {
        let known = |name: &DatasetName| {
            let unknown = || Refused::because(format!("dataset `{name}` is not known here"));
            self.facts.datasets.get(name).ok_or_else(unknown)
        };
        Ok(GateJob {
            user: job.user.as_ref(),
            groups: self.chain(&job.group),
            class: job.class.as_ref(),
            image: job.image.as_deref(),
            gpus: gpus(&job.resources).saturating_mul(job.nodes.max(1)),
            nodes: job.nodes.max(1),
            residency: &job.placement.residency,
            inputs: job.inputs.iter().map(known).collect::<Result<_, _>>()?,
        })
    }

    /// A group and all above it.
    fn chain<'a>(&'a self, group: &'a GroupName) -> Vec<&'a GroupName> {
        let mut chain = vec![group];
        while let Some(next) = chain.last().and_then(|last| self.facts.above.get(*last)) {
            // A tree has no cycle; one that got in must not keep the planner.
            if chain.contains(&next) {
                break;
            }
            chain.push(next);
        }
        chain
    }
}

/// What tells jobs apart at a gate, beside what is in every shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    class: Option<ClassName>,
    user: Option<UserName>,
    inputs: Vec<DatasetName>,
}

fn gpus(resources: &Resources) -> u32 {
    resources.gpus.as_ref().map_or(0, |gpus| match gpus.quantity {
        GpuQuantity::Whole(count) => count,
        GpuQuantity::Blocks(_) => 1,
    })
}

#[cfg(test)]
mod tests;
