//! Sites, clouds and offers.

use axum::Json;
use axum::extract::State as Handed;
use spillway_api::v1::{CloudView, InstanceView, OfferView, OffersQuery, Page, PoolView, SiteView};
use spillway_core::State;
use spillway_core::entity::{Instance, Pool, Site};
use spillway_policies::CloudOffer;
use spillway_types::{CloudName, FreeResources, GpuRequest, Money, Resources, UnixMs};

use super::auth::{Caller, Who};
use super::failure::Failure;
use super::input::{self, Params};
use super::{Shared, may_see, nodes};

/// How many instances that are gone are shown: those of the last hours at most places.
const ENDED_SHOWN: usize = 100;

pub(super) async fn sites(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<SiteView>>, Failure> {
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        state.sites.values().map(|declared| site(declared, state, &who)).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

fn site(site: &Site, state: &State, who: &Who) -> SiteView {
    let open = |pool: &&Pool| pool.site == site.name && nodes::may_use(state, who, pool);
    let pools: Vec<&Pool> = state.pools.values().filter(open).collect();
    let mut view = SiteView {
        name: site.name.clone(),
        kind: site.kind,
        jurisdiction: site.jurisdiction.clone(),
        pools: pools.iter().map(|open| pool(open, state, who)).collect(),
        nodes: 0,
        nodes_ready: 0,
        blocks: 0,
        blocks_free: 0,
    };
    for node in state.nodes.values().filter(|node| pools.iter().any(|pool| pool.name == node.pool)) {
        let (blocks, free) = nodes::blocks(node);
        view.nodes += 1;
        view.blocks += blocks;
        if node.state.takes_work() {
            view.nodes_ready += 1;
            view.blocks_free += free;
        }
    }
    view
}

fn pool(pool: &Pool, state: &State, who: &Who) -> PoolView {
    let groups = pool.groups.as_ref();
    let near = groups.map(|groups| groups.iter().filter(|group| nodes::is_near(state, who, group)).cloned());
    PoolView { name: pool.name.clone(), groups: near.map(Iterator::collect), tariff: pool.tariff }
}

pub(super) async fn clouds(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<CloudView>>, Failure> {
    let clouds = api.app.clouds.borrow().clone();
    let ended = api.app.engine.store().ended_instances(ENDED_SHOWN).await?;
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let show = |(name, problem): (CloudName, Option<String>)| {
            let of_cloud =
                |instance: &&Instance| instance.cloud == name && may_see(state, &who, &instance.group);
            // One that went between the two readings is in both.
            let over = ended.iter().filter(|instance| !state.instances.contains_key(&instance.id));
            let known = state.instances.values().rev().chain(over).filter(of_cloud);
            let regions = state.sites.values().filter(|site| site.cloud.as_ref() == Some(&name));
            CloudView {
                regions: regions.map(|site| site.name.clone()).collect(),
                instances: known.map(|known| instance(known, view.now)).collect(),
                problem,
                name,
            }
        };
        clouds.into_iter().map(show).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

fn instance(instance: &Instance, now: UnixMs) -> InstanceView {
    InstanceView {
        id: instance.id,
        provider_id: instance.provider_id.clone(),
        state: instance.state,
        site: instance.site.clone(),
        instance_type: instance.instance_type.clone(),
        price: instance.price_now(),
        launched: instance.created,
        ended: instance.gone.as_ref().map(|(at, _)| *at),
        cost: Money::usd_micros(instance.cost_micros(now)),
    }
}

pub(super) async fn offers(
    Handed(api): Handed<Shared>,
    Params(query): Params<OffersQuery>,
) -> Result<Json<Page<OfferView>>, Failure> {
    let wanted: Option<GpuRequest> = query.gpus.map(|text| input::parsed("gpus", &text)).transpose()?;
    let read = move |view: &crate::View<'_>| {
        let offers = view.federation.offers().iter();
        let fitting = offers.filter(|offer| wanted.as_ref().is_none_or(|wanted| gives(offer, wanted)));
        fitting.map(offer).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

/// Whether one instance has the accelerators.
fn gives(offer: &CloudOffer, wanted: &GpuRequest) -> bool {
    let wanted = Resources { gpus: Some(wanted.clone()), cpus_milli: 0, memory_mib: 0 };
    FreeResources::all_of(&offer.capacity).find(&offer.capacity, &wanted).is_ok()
}

fn offer(offer: &CloudOffer) -> OfferView {
    OfferView {
        cloud: offer.cloud.clone(),
        site: offer.site.clone(),
        jurisdiction: offer.jurisdiction.clone(),
        instance_type: offer.instance_type.clone(),
        gpus: nodes::gpus(&offer.capacity),
        cpus_milli: offer.capacity.cpus_milli,
        memory_mib: offer.capacity.memory_mib,
        price: offer.price,
        boot: offer.boot,
        available: offer.available,
    }
}
