//! Sites, nodes, clouds, offers, and the broker's health and alerts.

use std::collections::BTreeMap;

use spillway_api::v1::{
    CloudView, DestinationView, HealthView, JoinLine, NodeView, OfferView, Page, PoolView, SiteView,
};

use super::value::{age, amount, blocks, coarse, cpus, gpus, list, maybe, memory};
use crate::output::Look;
use crate::table::{Table, facts};

/// The list of sites.
pub(crate) fn sites(look: &Look, page: &Page<SiteView>) -> String {
    let mut heads = vec!["NAME", "KIND", "JURISDICTION", ">NODES READY", ">GPUS FREE", "POOLS"];
    if look.wide {
        heads.extend(["RATES", "GROUPS"]);
    }
    let mut table = Table::new(look, &heads);
    for site in &page.items {
        let pools: Vec<&str> = site.pools.iter().map(|pool| pool.name.as_str()).collect();
        let mut cells = vec![
            site.name.to_string(),
            site.kind.as_str().to_owned(),
            maybe(site.jurisdiction.as_ref()),
            format!("{}/{}", site.nodes_ready, site.nodes),
            format!("{}/{}", blocks(site.blocks_free), blocks(site.blocks)),
            pools.join(", "),
        ];
        if look.wide {
            let of_pools = |show: fn(&PoolView) -> String| {
                let words: Vec<String> =
                    site.pools.iter().map(|pool| format!("{}: {}", pool.name, show(pool))).collect();
                words.join("; ")
            };
            cells.push(of_pools(|pool| format!("GPU {}, CPU {}", pool.tariff.per_gpu, pool.tariff.per_cpu)));
            cells.push(of_pools(|pool| pool.groups.as_deref().map_or_else(|| "all".to_owned(), list)));
        }
        table.row_of(cells);
    }
    table.lines()
}

/// The list of nodes.
pub(crate) fn nodes(look: &Look, page: &Page<NodeView>) -> String {
    let mut heads = vec![
        "#ID",
        "HOST",
        "SITE",
        "?POOL",
        "STATE",
        "GPUS",
        ">FREE",
        "?>CPUS FREE",
        "?>MEMORY FREE",
        "?>PARTS",
        "?SEEN",
    ];
    if look.wide {
        heads.extend(["INSTANCE", "TYPE", "VERSION", "LABELS"]);
    }
    let mut table = Table::new(look, &heads);
    for node in &page.items {
        let mut cells = vec![
            node.id.to_string(),
            node.hostname.clone(),
            node.site.to_string(),
            node.pool.to_string(),
            node.state.as_str().to_owned(),
            gpus(&node.gpus),
            format!("{}/{}", blocks(node.blocks_free), blocks(node.blocks)),
            format!("{}/{}", cpus(node.cpus_milli_free), cpus(node.cpus_milli)),
            format!("{}/{}", memory(node.memory_mib_free), memory(node.memory_mib)),
            node.running.to_string(),
            node.last_seen.map(|at| age(look.now, at)).unwrap_or_default(),
        ];
        if look.wide {
            cells.extend([
                maybe(node.instance),
                maybe(node.instance_type.as_ref()),
                maybe(node.version.as_ref()),
                labels(&node.labels),
            ]);
        }
        table.row_of(cells);
    }
    table.lines()
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// One node after a change.
pub(crate) fn node(look: &Look, view: &NodeView) -> String {
    nodes(look, &Page { items: vec![view.clone()], next: None })
}

/// The clouds, then their instances.
pub(crate) fn clouds(look: &Look, page: &Page<CloudView>) -> String {
    let mut table = Table::new(look, &["CLOUD", "REGIONS", ">INSTANCES", "PROBLEM"]);
    for cloud in &page.items {
        table.row([
            cloud.name.to_string(),
            list(&cloud.regions),
            cloud.instances.len().to_string(),
            maybe(cloud.problem.as_ref()),
        ]);
    }
    let mut text = table.lines();
    if page.items.iter().all(|cloud| cloud.instances.is_empty()) {
        return text;
    }
    let mut heads = vec!["#INSTANCE", "?CLOUD", "SITE", "TYPE", "STATE", "?>PRICE", "?LAUNCHED", ">COST"];
    if look.wide {
        heads.extend(["PROVIDER ID", "ENDED"]);
    }
    let mut table = Table::new(look, &heads);
    for (cloud, instance) in
        page.items.iter().flat_map(|cloud| cloud.instances.iter().map(move |i| (cloud, i)))
    {
        let mut cells = vec![
            instance.id.to_string(),
            cloud.name.to_string(),
            instance.site.to_string(),
            instance.instance_type.to_string(),
            instance.state.as_str().to_owned(),
            instance.price.to_string(),
            age(look.now, instance.launched),
            amount(instance.cost),
        ];
        if look.wide {
            cells.push(maybe(instance.provider_id.as_ref()));
            cells.push(instance.ended.map(|at| age(look.now, at)).unwrap_or_default());
        }
        table.row_of(cells);
    }
    text.push('\n');
    text.push_str(&table.lines());
    text
}

/// The list of offers.
pub(crate) fn offers(look: &Look, page: &Page<OfferView>) -> String {
    let heads = ["CLOUD", "SITE", "TYPE", "GPUS", ">CPUS", ">MEMORY", ">PRICE", "BOOT", ">AVAILABLE"];
    let mut table = Table::new(look, &heads);
    for offer in &page.items {
        table.row([
            offer.cloud.to_string(),
            offer.site.to_string(),
            offer.instance_type.to_string(),
            gpus(&offer.gpus),
            cpus(offer.cpus_milli),
            memory(offer.memory_mib),
            offer.price.to_string(),
            coarse(offer.boot),
            offer.available.to_string(),
        ]);
    }
    table.lines()
}

/// Who is told of limits that fill up.
pub(crate) fn alerts(look: &Look, page: &Page<DestinationView>) -> String {
    let mut table = Table::new(look, &["NAME", "CHANNEL", "GROUPS", "THRESHOLDS", ">WAITING", "PROBLEM"]);
    let all = |listed: Vec<String>| if listed.is_empty() { "all".to_owned() } else { listed.join(",") };
    for told in &page.items {
        table.row([
            told.name.clone(),
            told.channel.clone(),
            all(told.groups.iter().map(ToString::to_string).collect()),
            all(told.thresholds.iter().map(|percent| format!("{percent}%")).collect()),
            told.waiting.to_string(),
            told.problem.clone().unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// The line that joins a machine, and nothing else: it is made to be copied.
pub(crate) fn join_line(_: &Look, line: &JoinLine) -> String {
    format!("{}\n", line.command.expose())
}

/// How the broker is.
pub(crate) fn health(_: &Look, health: &HealthView) -> String {
    let awaited = (health.nodes_awaited > 0).then(|| health.nodes_awaited.to_string());
    facts(&[
        ("version", Some(health.version.clone())),
        ("deployment", Some(health.deployment.clone())),
        ("incarnation", Some(health.incarnation.to_string())),
        ("mode", Some(health.mode.as_str().to_owned())),
        ("message", health.message.clone()),
        ("nodes awaited", awaited),
        ("invariants broken", Some(health.invariant_violations.to_string())),
        ("ledger imbalance", Some(format!("{} micros", health.ledger_imbalance_micros))),
        ("database", Some(health.database.clone())),
    ])
}

/// Where a broker that has just started is, and at its first start the admin's token, this once.
pub(crate) fn ready(_: &Look, ready: &spillway_server::Ready) -> String {
    facts(&[
        ("http", Some(ready.http.clone())),
        ("tunnel", Some(ready.tunnel.clone())),
        ("CA fingerprint", Some(ready.ca_fingerprint.clone())),
        ("process", Some(ready.pid.to_string())),
        ("admin token", ready.admin_token.clone()),
    ])
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
