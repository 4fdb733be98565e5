//! What nodes say of their usage events, and what of it a period's close needs.

use std::collections::BTreeMap;

use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{NodeUsage, SiteManifest, UsageMark};
use spillway_types::{DurationMs, NodeId, SiteName, UnixMs};

use crate::{Refusal, State};

/// How long what a node says may have been on its way: twice as long as a session may be silent. A node counts the age of
/// what it has not said from the sending, the broker from the coming, so that this much more is taken off.
const WAY: DurationMs = DurationMs::from_secs(60);

/// What is worth noting of what a node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Its use is here beyond the end of a month.
    Complete,
    /// It sent something else than what is here.
    Differs,
}

/// Whether what the node says is worth a command: all that it used until `age_ms` before its sending is in `sent`.
/// Nothing is for thousands of renewals between two ends of months.
#[must_use]
pub fn news(state: &State, node: NodeId, sent: &UsageMark, age_ms: u64, now: UnixMs) -> Option<News> {
    let node = state.nodes.get(&node)?;
    let stands = (node.acked, !node.parts.is_empty());
    let is_news = node.usage.is_news(sent, complete_to(age_ms, now), stands, state.periods.zone());
    is_news.then_some(if *sent == node.usage.mark { News::Complete } else { News::Differs })
}

pub(crate) const fn complete_to(age_ms: u64, now: UnixMs) -> UnixMs {
    UnixMs(now.0.saturating_sub_unsigned(age_ms.saturating_add(WAY.0)))
}

/// Whether all use in the period is known: every node that had a part of an attempt then has said so.
pub(crate) fn check(state: &State, period: Period) -> Result<(), Refusal> {
    let span = (period.start(state.periods.zone()), period.end(state.periods.zone()));
    let mut gaps =
        state.nodes.values().filter_map(|node| Some((node, node.usage.gap(span, !node.parts.is_empty())?)));
    let Some((node, gap)) = gaps.next() else { return Ok(()) };
    let (node, site, count) = (node.id, node.site.clone(), 1 + gaps.count());
    Err(Refusal::UsageUnknown { period, count, node, site, gap: Box::new(gap) })
}

/// The manifests of all sites that ever had usage, as they stand now.
pub(crate) fn manifests(state: &State, period: Period) -> Vec<SiteManifest> {
    let mut sites: BTreeMap<&SiteName, Vec<(NodeId, &NodeUsage)>> =
        state.site_usage.keys().map(|site| (site, vec![])).collect();
    for node in state.nodes.values().filter(|node| node.usage.count() > 0) {
        sites.entry(&node.site).or_default().push((node.id, &node.usage));
    }
    let manifest = |(site, nodes): (&SiteName, Vec<(NodeId, &NodeUsage)>)| {
        let known = state.site_usage.get(site).copied().unwrap_or_default();
        known.manifest(site.clone(), period, nodes.into_iter())
    };
    sites.into_iter().map(manifest).collect()
}
