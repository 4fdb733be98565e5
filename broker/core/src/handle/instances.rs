//! What happens to instances at their providers, and what follows for attempts and nodes.

use std::collections::BTreeMap;

use spillway_types::{
    AttemptId, AttemptState, HourlyRate, InstanceId, InstanceState, InstanceStep, Market, NodeId, NodeStep,
};

use super::outcome;
use crate::command::InstanceNews;
use crate::entity::{Attempt, GoneReason, Instance, StopCause};
use crate::federation::Turn;
use crate::{Event, Refusal, Reply};

pub(super) fn step(turn: &mut Turn<'_>, id: InstanceId, what: InstanceNews) -> Result<Reply, Refusal> {
    let known = turn.state.instances.get(&id);
    let instance = known.ok_or_else(|| Refusal::NotFound { kind: "instance", id: id.to_string() })?;
    let stepped = |step, observed| Event::InstanceStepped { instance: id, step, observed };
    match what {
        InstanceNews::Asking => {
            let after = instance.state.after(InstanceStep::Ask)?;
            if after != instance.state {
                turn.emit(stepped(InstanceStep::Ask, None));
            }
        }
        InstanceNews::Exists { provider_id, launched } => {
            let after = instance.state.after(InstanceStep::Exist)?;
            if after != instance.state || instance.provider_id.as_ref() != Some(&provider_id) {
                turn.emit(stepped(InstanceStep::Exist, Some((provider_id, launched))));
            }
        }
        InstanceNews::Doubt => {
            let after = instance.state.after(InstanceStep::Doubt)?;
            // An agent that dialled in has answered the question before the provider did.
            if after != instance.state && instance.ready.is_none() {
                turn.emit(stepped(InstanceStep::Doubt, None));
            }
        }
        InstanceNews::Terminate => terminate(turn, id),
        InstanceNews::Gone(why) => gone(turn, id, why),
    }
    Ok(Reply::Done)
}

/// Notes what costs something else by now. What its cloud offers no more costs what it did.
pub(super) fn reprice(turn: &mut Turn<'_>) -> Reply {
    let mut prices: BTreeMap<_, Vec<HourlyRate>> = BTreeMap::new();
    for offer in turn.offers {
        let key = (&offer.cloud, &offer.site, &offer.instance_type, offer.terms.market);
        prices.entry(key).or_default().push(offer.price);
    }
    let changed = |instance: &Instance| {
        let prices_of = |market: Market| {
            let known = prices.get(&(&instance.cloud, &instance.site, &instance.instance_type, market));
            known.map_or(&[][..], Vec::as_slice)
        };
        let same_or_first = |prices: &[HourlyRate], now: HourlyRate| {
            if prices.contains(&now) { now } else { prices.first().copied().unwrap_or(now) }
        };
        let price = same_or_first(prices_of(instance.market), instance.price_now());
        let before = instance.on_demand_price_now();
        let listed = prices_of(Market::OnDemand);
        let on_demand_price = match before {
            _ if instance.market.is_on_demand() => None,
            Some(before) => Some(same_or_first(listed, before)),
            None => listed.first().copied(),
        };
        let news = (price, on_demand_price) != (instance.price_now(), before);
        let instance = instance.id;
        news.then_some(Event::InstanceRepriced { instance, price, on_demand_price })
    };
    let events: Vec<Event> = turn.state.instances.values().filter_map(changed).collect();
    events.into_iter().for_each(|event| turn.emit(event));
    Reply::Done
}

/// Ends an instance that no attempt waits for any more and that no agent runs on yet.
pub(super) fn end_unused(turn: &mut Turn<'_>, id: InstanceId) {
    let Some(instance) = turn.state.instances.get(&id) else { return };
    match instance.state {
        InstanceState::Intended
        | InstanceState::Launching
        | InstanceState::Booting
        | InstanceState::Unknown => {
            terminate(turn, id);
        }
        // It is warm: another job may take it before its time is over.
        InstanceState::Ready | InstanceState::Draining | InstanceState::Terminating | InstanceState::Gone => {
        }
    }
}

/// Tells that the instance is to be ended; attempts that wait for it or run there go back.
pub(super) fn terminate(turn: &mut Turn<'_>, id: InstanceId) {
    let Some(instance) = turn.state.instances.get(&id) else { return };
    if matches!(instance.state, InstanceState::Terminating | InstanceState::Gone) {
        return;
    }
    turn.emit(Event::InstanceStepped { instance: id, step: InstanceStep::Terminate, observed: None });
    for attempt in waiting_for(turn, id) {
        outcome::stop(turn, attempt, StopCause::NoInstance);
    }
}

fn waiting_for(turn: &Turn<'_>, id: InstanceId) -> Vec<AttemptId> {
    let attempt =
        turn.state.instances.get(&id).and_then(|instance| turn.state.attempts.get(&instance.attempt));
    let waits =
        attempt.filter(|a| a.state == AttemptState::Held && a.parts.iter().any(|p| p.instance == Some(id)));
    waits.map(|attempt| attempt.id).into_iter().collect()
}

fn gone(turn: &mut Turn<'_>, id: InstanceId, why: GoneReason) {
    for attempt in waiting_for(turn, id) {
        outcome::stop(turn, attempt, StopCause::NoInstance);
    }
    if let Some(node) = turn.state.instances.get(&id).and_then(|instance| instance.node) {
        leave(turn, node);
    }
    turn.emit(Event::InstanceGone { instance: id, why });
}

/// The provider showed that the machine is no more: nothing runs there, and nothing will be reported.
fn leave(turn: &mut Turn<'_>, id: NodeId) {
    let Some(node) = turn.state.nodes.get(&id) else { return };
    let parts: Vec<(AttemptId, u32)> = node
        .parts
        .keys()
        .filter_map(|attempt| {
            let (rank, part) = turn.state.attempts.get(attempt)?.part_on(id)?;
            (!part.state.is_over()).then_some((*attempt, u32::try_from(rank).unwrap_or(u32::MAX)))
        })
        .collect();
    for (attempt, rank) in &parts {
        turn.emit(Event::PartSilent { attempt: *attempt, rank: *rank });
    }
    for (attempt, _) in parts {
        outcome::advance(turn, attempt);
    }
    turn.emit(Event::NodeStepped { node: id, step: NodeStep::Leave });
    let settles =
        |attempt: &&Attempt| attempt.state == AttemptState::Settling && attempt.part_on(id).is_some();
    let settling: Vec<AttemptId> =
        turn.state.attempts.values().filter(settles).map(|attempt| attempt.id).collect();
    for attempt in settling {
        outcome::settle_if_complete(turn, attempt);
    }
}
