//! Carries out what a plan decided, decision by decision, as far as the state has not moved under it.

use spillway_ledger::rates::BillingTerms;
use spillway_policies::{CloudOffer, Decision, Gatekeeper, PartPlacement, Target};
use spillway_types::{
    Allocation, AttemptId, GpuModel, HourlyRate, InstanceId, InstanceState, Interconnect, NodeCapacity,
    OfferTerms, SiteKind, SiteName, instance_share,
};

use crate::command::Endpoint;
use crate::entity::Job;
use crate::event::{Intended, Placed, PlacedParts};
use crate::federation::Turn;
use crate::{Event, Reply, limited, moved, snapshot};

pub(super) fn place(turn: &mut Turn<'_>, decisions: Vec<Decision>, endpoint: &Endpoint) -> Reply {
    let (mut started, mut stale) = (0, 0);
    let gate = turn.gatekeeper();
    for decision in decisions {
        if is_admitted(turn, gate.as_ref(), &decision) && place_one(turn, decision, endpoint).is_some() {
            started += 1;
        } else {
            stale += 1;
        }
    }
    Reply::Placed { started, stale }
}

/// Whether the job may still go where the plan wants it: rules, and what they look at, may have changed since.
fn is_admitted(turn: &Turn<'_>, gate: Option<&Gatekeeper>, decision: &Decision) -> bool {
    match (gate, turn.state.jobs.get(&decision.job)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(gate), Some(job)) => admits(turn, gate, job, &decision.target).is_some(),
    }
}

fn admits(turn: &Turn<'_>, gate: &Gatekeeper, job: &Job, target: &Target) -> Option<()> {
    let asked = snapshot::queued_job(turn.state, job);
    let of_all = |rate: HourlyRate| HourlyRate(rate.0.saturating_mul(i64::from(job.spec.nodes.max(1))));
    match target {
        Target::Nodes { parts } => parts.iter().try_for_each(|part| {
            let node = snapshot::view(turn.state, turn.state.nodes.get(&part.node)?)?;
            gate.admits_to_node(&asked, &node, of_all(part.rate)).ok()
        }),
        Target::Launch { rate, .. } => {
            gate.admits_to_offer(&asked, offer_of(turn, target)?, of_all(*rate)).ok()
        }
    }
}

/// The offer that a launch is from, where it still stands.
fn offer_of<'a>(turn: &Turn<'a>, target: &Target) -> Option<&'a CloudOffer> {
    let Target::Launch { cloud, site, instance_type, price, market, .. } = target else { return None };
    turn.offers.iter().find(|offer| {
        (&offer.cloud, &offer.site, &offer.instance_type) == (cloud, site, instance_type)
            && (offer.price, offer.terms.market) == (*price, *market)
    })
}

/// What the shape of an offer costs in its region on demand, where the offer itself is another one.
fn on_demand_price(turn: &Turn<'_>, of: &CloudOffer) -> Option<HourlyRate> {
    let same = |offer: &&CloudOffer| {
        (&offer.cloud, &offer.site, &offer.instance_type) == (&of.cloud, &of.site, &of.instance_type)
    };
    let on_demand = |offer: &&CloudOffer| offer.terms.market.is_on_demand();
    let price = turn.offers.iter().filter(same).find(on_demand).map(|offer| offer.price);
    price.filter(|_| !of.terms.market.is_on_demand())
}

/// None where the decision no longer holds; nothing changed then.
fn place_one(turn: &mut Turn<'_>, decision: Decision, endpoint: &Endpoint) -> Option<()> {
    let job = turn.state.jobs.get(&decision.job)?;
    let waits = !job.cancel_requested && job.held.is_none() && job.queued.contains(decision.task);
    if !waits || decision.hold_micros < 0 {
        return None;
    }
    let number = job.tries.get(&decision.task).map_or(0, |tries| tries.made) + 1;
    let lease = limited::lease_of(job);
    let (nodes, group, user) = (job.spec.nodes as usize, job.spec.group.clone(), job.user.clone());
    let one_domain = nodes > 1 && job.spec.placement.interconnect == Interconnect::SameDomain;
    let (target, hold_micros) = by_cards(turn, decision.target, decision.hold_micros);
    let inputs = moved::inputs(turn.state, turn.data, &job.spec.inputs, site_of(turn, &target)?);
    let hold_micros = hold_micros.saturating_add(moved::egress_micros(&inputs, nodes));
    turn.state.book.can_hold(&group, hold_micros).ok()?;
    let offer = offer_of(turn, &target).cloned();
    let Decision { job, task, because, .. } = decision;
    let placed = |attempt, (site, kind, cloud), parts, (models, caps)| Placed {
        attempt,
        job,
        task,
        number,
        site,
        kind,
        cloud,
        parts,
        lease,
        models,
        caps,
        inputs,
        hold_micros,
        because,
    };
    match target {
        Target::Nodes { parts } => {
            let (site, kind) = check_nodes(turn, &parts, nodes, &group)?;
            if one_domain {
                check_domain(turn, &parts)?;
            }
            let cloud = turn.state.sites.get(&site)?.cloud.clone();
            let models = parts.iter().map(|part| model_on(turn, part)).collect();
            let caps = caps(parts.iter().map(|part| cap_on(turn, part)).collect());
            let (attempt, parts) = (AttemptId::generate(turn.ids), PlacedParts::Nodes { parts });
            place_within_limits(turn, placed(attempt, (site, kind, cloud), parts, (models, caps)))?;
            turn.emit(Event::AttemptLeased { attempt });
        }
        Target::Launch { cloud, site, instance_type, price, market, allocation, rate } => {
            let offer = offer?;
            if one_domain {
                offer.capacity.domain()?;
            }
            let (attempt, on_demand_price) = (AttemptId::generate(turn.ids), on_demand_price(turn, &offer));
            let instances: Vec<InstanceId> = (0..nodes).map(|_| InstanceId::generate(turn.ids)).collect();
            let model = model_of(&offer.capacity, &allocation);
            let cap = on_demand_price.map(|price| instance_share(price, &offer.capacity, &allocation));
            let caps = caps(vec![cap; nodes]);
            let parts = PlacedParts::Instances { instances: instances.clone(), allocation, rate };
            let place = (site.clone(), SiteKind::Cloud, Some(cloud.clone()));
            place_within_limits(turn, placed(attempt, place, parts, (vec![model; nodes], caps)))?;
            let intended = |instance| Intended {
                instance,
                job,
                attempt,
                group: group.clone(),
                user: user.clone(),
                cloud: cloud.clone(),
                site: site.clone(),
                instance_type: instance_type.clone(),
                capacity: offer.capacity.clone(),
                price,
                market,
                on_demand_price,
                billing: billing(&offer.terms),
                broker_addr: endpoint.broker_addr.clone(),
                ca_fingerprint: endpoint.ca_fingerprint.clone(),
            };
            instances.into_iter().for_each(|it| turn.emit(Event::InstanceIntended(Box::new(intended(it)))));
        }
    }
    Some(())
}

/// Where a decision would run.
fn site_of<'a>(turn: &'a Turn<'_>, target: &'a Target) -> Option<&'a SiteName> {
    match target {
        Target::Nodes { parts } => Some(&turn.state.nodes.get(&parts.first()?.node)?.site),
        Target::Launch { site, .. } => Some(site),
    }
}

const fn billing(terms: &OfferTerms) -> BillingTerms {
    let OfferTerms { minimum, increment, free_if_interrupted_within, .. } = *terms;
    BillingTerms { minimum, increment, free_if_interrupted_within }
}

/// The planner decides by what a pool's use costs at the margin; it is charged, and held, by the pool's rate card where
/// it has one. The hold grows or shrinks with the rate; where the margin is 0 the use is an
/// overrun as a whole.
fn by_cards(turn: &Turn<'_>, target: Target, hold_micros: i64) -> (Target, i64) {
    let Target::Nodes { mut parts } = target else { return (target, hold_micros) };
    let total = |parts: &[PartPlacement]| parts.iter().map(|part| i128::from(part.rate.0)).sum::<i128>();
    let before = total(&parts);
    for part in &mut parts {
        let node = turn.state.nodes.get(&part.node);
        let rate = node.and_then(|node| turn.state.card_rate(node, &part.allocation, turn.now));
        part.rate = rate.unwrap_or(part.rate);
    }
    let after = total(&parts);
    let hold = if after == before || before <= 0 {
        i128::from(hold_micros)
    } else {
        (i128::from(hold_micros) * after + before - 1) / before
    };
    (Target::Nodes { parts }, i64::try_from(hold).unwrap_or(i64::MAX))
}

/// Places the attempt where every limit has room for it; what is refused is remembered, so that the next plan knows.
fn place_within_limits(turn: &mut Turn<'_>, placed: Placed) -> Option<()> {
    let demand = limited::demand_of(turn.state.jobs.get(&placed.job)?, &placed);
    if turn.state.limits.check(&demand, turn.now).is_err() {
        turn.state.waits.note(placed.job, demand);
        return None;
    }
    turn.emit(Event::AttemptPlaced(Box::new(placed)));
    Some(())
}

/// The model of the accelerators that a part has: of the first, where they are of several.
fn model_of(capacity: &NodeCapacity, allocation: &Allocation) -> Option<GpuModel> {
    let first = allocation.shares.first()?;
    let accelerator = capacity.accelerators.iter().find(|accelerator| accelerator.index == first.index)?;
    Some(accelerator.model.clone())
}

/// What a part costs on demand, where its node is another kind of instance.
fn cap_on(turn: &Turn<'_>, part: &PartPlacement) -> Option<HourlyRate> {
    let instance = turn.state.instances.get(&turn.state.nodes.get(&part.node)?.instance?)?;
    Some(instance_share(instance.on_demand_price_now()?, &instance.capacity, &part.allocation))
}

/// Nothing where nothing is known.
fn caps(caps: Vec<Option<HourlyRate>>) -> Vec<Option<HourlyRate>> {
    if caps.iter().any(Option::is_some) { caps } else { vec![] }
}

fn model_on(turn: &Turn<'_>, part: &PartPlacement) -> Option<GpuModel> {
    let node = turn.state.nodes.get(&part.node)?;
    model_of(&node.inventory.as_ref()?.capacity, &part.allocation)
}

/// Every part still fits its node, the nodes are distinct, of one site, and open to the group.
fn check_nodes(
    turn: &Turn<'_>,
    parts: &[PartPlacement],
    wanted: usize,
    group: &spillway_types::GroupName,
) -> Option<(SiteName, SiteKind)> {
    let first = turn.state.nodes.get(&parts.first()?.node)?;
    if parts.len() != wanted {
        return None;
    }
    for (rank, part) in parts.iter().enumerate() {
        let node = turn.state.nodes.get(&part.node)?;
        let repeated = parts.iter().take(rank).any(|other| other.node == part.node);
        if repeated || !node.state.takes_work() || node.site != first.site {
            return None;
        }
        let instance = node.instance.map(|id| turn.state.instances.get(&id));
        if instance
            .is_some_and(|instance| instance.is_none_or(|instance| instance.state != InstanceState::Ready))
        {
            return None;
        }
        let allowed = turn.state.pools.get(&node.pool)?.groups.as_ref();
        if allowed.is_some_and(|groups| !groups.iter().any(|own| turn.state.is_within(group, own))) {
            return None;
        }
        node.free()?.take(&part.allocation).ok()?;
    }
    Some((first.site.clone(), turn.state.sites.get(&first.site)?.kind))
}

/// All nodes are of one interconnect domain.
fn check_domain(turn: &Turn<'_>, parts: &[PartPlacement]) -> Option<()> {
    let domain_of =
        |part: &PartPlacement| turn.state.nodes.get(&part.node)?.inventory.as_ref()?.capacity.domain();
    let first = domain_of(parts.first()?)?;
    parts.iter().all(|part| domain_of(part) == Some(first)).then_some(())
}
