//! The hard rules: whether a node of one kind or an instance of one offer may and can run one part of a job,
//! whatever else runs.

use spillway_types::resources::BLOCKS_PER_GPU;
use spillway_types::{
    AcceleratorShare, Allocation, GpuQuantity, GpuSelector, HourlyRate, Market, Resources, SiteName, Spot,
    instance_share,
};

use crate::fleet::Kind;
use crate::gate::{Gatekeeper, Refused};
use crate::layout::{ClassMask, Layout, Need, Want};
use crate::offer::Offer;
use crate::policy::SpotRule;
use crate::{NodePrice, QueuedJob, Restarts, Verdict};

/// What stands in the way. Ordered: a later bar is nearer to running, and is the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bar {
    /// The job's `allow` list.
    Site,
    /// The job's residency rule.
    Jurisdiction,
    /// The pool's groups.
    Group,
    /// Capacity, even when empty.
    Size,
    /// An access policy.
    Access,
    /// No container executor.
    Container,
    /// Nothing but a container executor, for a job without an image.
    OnlyContainers,
    /// No parts of accelerators.
    Fractions,
    /// Its provider may take it back, and the job or the policy does not risk that.
    Spot,
    /// Too few such nodes for a gang.
    Nodes,
    /// The job's `max_price`.
    MaxPrice,
    /// It takes no work now.
    Closed,
}

impl Bar {
    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::Site | Self::Jurisdiction | Self::Access | Self::OnlyContainers | Self::Spot => {
                Verdict::NotAllowed
            }
            Self::Group => Verdict::OtherGroups,
            Self::Size | Self::Nodes => Verdict::TooSmall,
            Self::Container => Verdict::NoContainer,
            Self::Fractions => Verdict::NoFractions,
            Self::MaxPrice => Verdict::MaxPrice,
            Self::Closed => Verdict::Closed,
        }
    }
}

/// One node or offer against one part of a job.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) bar: Option<Bar>,
    /// What was said where the bar is [`Bar::Access`].
    pub(crate) refused: Option<Refused>,
    pub(crate) mask: ClassMask,
    /// What the part is charged there; meaningless where it is too small.
    pub(crate) rate: HourlyRate,
}

/// A job's needs, in the forms in which they are compared.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) job: &'a QueuedJob,
    pub(crate) need: Need,
    spot: SpotRule,
    /// As large as what will be given; which accelerators it names has no meaning.
    sized: Allocation,
    gate: Option<&'a Gatekeeper>,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(job: &'a QueuedJob, spot: SpotRule) -> Self {
        Self { job, need: Need::of(&job.resources), spot, sized: sized(&job.resources), gate: None }
    }

    /// The same where a gate is asked.
    pub(crate) fn at(self, gate: Option<&'a Gatekeeper>) -> Self {
        Self { gate, ..self }
    }

    pub(crate) fn kind(&self, kind: &Kind) -> Judged {
        let node = &kind.sample;
        let mask = self.mask(&kind.layout);
        let rate = match node.price {
            NodePrice::Tariff(tariff) => tariff.rate(&self.sized),
            NodePrice::Instance(price) => instance_share(price, &node.capacity, &self.sized),
        };
        let mut refused = None;
        let bar = self.kind_bar(kind, mask, rate, &mut refused);
        Judged { bar, refused, mask, rate }
    }

    fn kind_bar(
        &self,
        kind: &Kind,
        mask: ClassMask,
        rate: HourlyRate,
        refused: &mut Option<Refused>,
    ) -> Option<Bar> {
        let node = &kind.sample;
        let job = self.job;
        let can = node.capabilities;
        if let Some(bar) = self.place_bar(&node.site, node.jurisdiction.as_deref()) {
            Some(bar)
        } else if node.groups.as_ref().is_some_and(|groups| !groups.contains(&job.group)) {
            Some(Bar::Group)
        } else if !self.need.fits(&kind.all, mask) {
            Some(Bar::Size)
        } else if self.is_denied(refused, |gate| gate.admits_to_node(job, node, self.of_all(rate))) {
            Some(Bar::Access)
        } else if job.image.is_some() && !can.container {
            Some(Bar::Container)
        } else if job.image.is_none() && can.container && !can.process {
            Some(Bar::OnlyContainers)
        } else if matches!(self.need.want, Want::Blocks(_)) && !can.fractions {
            Some(Bar::Fractions)
        } else if job.placement.max_price.is_some_and(|most| rate > most) {
            Some(Bar::MaxPrice)
        } else if !node.takes_work {
            Some(Bar::Closed)
        } else {
            None
        }
    }

    /// An offer does not say what its agent can do: containers are taken for granted, fractions are not.
    /// How many are available is not asked here.
    pub(crate) fn offer(&self, known: &Offer) -> Judged {
        let offer = &known.view;
        let mask = self.mask(&known.layout);
        let rate = instance_share(offer.price, &offer.capacity, &self.sized);
        let all = i128::from(rate.0) * i128::from(self.job.nodes.max(1));
        let mut refused = None;
        let asked = |gate: &Gatekeeper| gate.admits_to_offer(self.job, offer, self.of_all(rate));
        let bar = if let Some(bar) = self.place_bar(&offer.site, offer.jurisdiction.as_deref()) {
            Some(bar)
        } else if !self.need.fits(&known.all, mask) {
            Some(Bar::Size)
        } else if self.is_denied(&mut refused, asked) {
            Some(Bar::Access)
        } else if matches!(self.need.want, Want::Blocks(_)) {
            Some(Bar::Fractions)
        } else if offer.terms.market == Market::Spot && !self.risks_spot() {
            Some(Bar::Spot)
        } else if self.job.placement.max_price.is_some_and(|most| all > i128::from(most.0)) {
            Some(Bar::MaxPrice)
        } else {
            None
        };
        Judged { bar, refused, mask, rate }
    }

    /// Asks the gate, where there is one, and keeps what it says against the job.
    fn is_denied(
        &self,
        refused: &mut Option<Refused>,
        ask: impl FnOnce(&Gatekeeper) -> Result<(), Refused>,
    ) -> bool {
        *refused = self.gate.and_then(|gate| ask(gate).err());
        refused.is_some()
    }

    /// What all parts are charged, where one is charged so much.
    fn of_all(&self, rate: HourlyRate) -> HourlyRate {
        HourlyRate(rate.0.saturating_mul(i64::from(self.job.nodes.max(1))))
    }

    fn place_bar(&self, site: &SiteName, jurisdiction: Option<&str>) -> Option<Bar> {
        let placement = &self.job.placement;
        if !placement.allow.is_empty() && !placement.allow.contains(site) {
            return Some(Bar::Site);
        }
        let resides = |wanted: &String| jurisdiction == Some(wanted.as_str());
        (!placement.residency.is_empty() && !placement.residency.iter().any(resides))
            .then_some(Bar::Jurisdiction)
    }

    /// Whether the job may run where it can be interrupted.
    fn risks_spot(&self) -> bool {
        self.spot == SpotRule::Allow
            && self.job.placement.spot == Spot::Allow
            && self.job.restarts != Restarts::Never
    }

    fn mask(&self, layout: &Layout) -> ClassMask {
        self.job.resources.gpus.as_ref().map_or(0, |gpus| layout.mask(&gpus.selector))
    }
}

fn sized(resources: &Resources) -> Allocation {
    let mut allocation = Allocation {
        cpus_milli: resources.cpus_milli,
        memory_mib: resources.memory_mib,
        ..Allocation::default()
    };
    if let Some(gpus) = &resources.gpus {
        let share = |index, blocks| AcceleratorShare { index, blocks };
        match (&gpus.selector, gpus.quantity) {
            (GpuSelector::Mig { profile }, GpuQuantity::Whole(count)) => {
                allocation.mig = (0..count).map(|_| profile.clone()).collect();
            }
            (_, GpuQuantity::Whole(count)) => {
                allocation.shares = (0..count).map(|index| share(index, BLOCKS_PER_GPU)).collect();
            }
            (_, GpuQuantity::Blocks(blocks)) => allocation.shares = vec![share(0, blocks)],
        }
    }
    allocation
}
