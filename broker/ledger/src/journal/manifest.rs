//! What was here of each site's usage when a period was closed, in a form that can be checked for ever.

use serde::{Deserialize, Serialize};
use spillway_types::{NodeId, SiteName};

use super::chain::Digest;
use super::usage::{NodeUsage, UsageMark};
use crate::calendar::Period;

/// Marks one after the other, in one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fold {
    /// How many marks.
    pub marks: u64,
    /// How many usage events.
    pub count: u64,
    /// SHA-256 of the hash before, a name, a count and the mark's hash, of each in turn; zeros before the first.
    pub hash: Digest,
}

impl Fold {
    /// Whether there is no mark.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.marks == 0
    }

    /// Adds a mark.
    pub(super) fn add(&mut self, name: &str, count: u64, digest: Digest) {
        let fields = [self.hash.bytes().as_slice(), name.as_bytes(), &count.to_be_bytes(), digest.bytes()];
        self.hash = Digest::of_fields(fields);
        self.marks = self.marks.saturating_add(1);
        self.count = self.count.saturating_add(count);
    }
}

/// A node in its site's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeManifest {
    /// The node.
    pub node: NodeId,
    /// What was taken of it.
    pub mark: UsageMark,
    /// Its marks before that one.
    #[serde(default, skip_serializing_if = "Fold::is_empty")]
    pub earlier: Fold,
}

impl NodeManifest {
    fn fold_into(&self, fold: &mut Fold) {
        let range = self.mark.range.unwrap_or_default();
        let numbers =
            [self.mark.after, self.mark.count, range.0, range.1, self.earlier.marks, self.earlier.count];
        let numbers = numbers.map(u64::to_be_bytes).concat();
        let fields = [numbers.as_slice(), self.mark.hash.bytes(), self.earlier.hash.bytes()];
        let count = self.mark.count.saturating_add(self.earlier.count);
        fold.add(&self.node.to_string(), count, Digest::of_fields(fields));
    }
}

/// What is known of a site's usage beside its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SiteUsage {
    /// The nodes that have left, in the order of their leaving.
    pub gone: Fold,
    /// How many usage events there were when a period was last closed.
    pub closed: u64,
}

impl SiteUsage {
    /// A node leaves the site.
    pub fn leave(&mut self, node: NodeId, usage: &NodeUsage) {
        if usage.count() > 0 {
            NodeManifest { node, mark: usage.mark, earlier: usage.earlier }.fold_into(&mut self.gone);
        }
    }

    /// The site's manifest at the close of a period, of these nodes in the order of their ids.
    #[must_use]
    pub fn manifest<'a>(
        &self,
        site: SiteName,
        period: Period,
        nodes: impl Iterator<Item = (NodeId, &'a NodeUsage)>,
    ) -> SiteManifest {
        let nodes = nodes.filter(|(_, usage)| usage.count() > 0);
        let nodes: Vec<NodeManifest> = nodes
            .map(|(node, usage)| NodeManifest { node, mark: usage.mark, earlier: usage.earlier })
            .collect();
        let whole = fold(self.gone, &nodes);
        let added = whole.count.saturating_sub(self.closed);
        SiteManifest { site, period, count: whole.count, added, gone: self.gone, nodes, hash: whole.hash }
    }
}

fn fold(gone: Fold, nodes: &[NodeManifest]) -> Fold {
    let mut whole = gone;
    nodes.iter().for_each(|node| node.fold_into(&mut whole));
    whole
}

/// The usage events of a site that were taken until a period was closed. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteManifest {
    /// The site.
    pub site: SiteName,
    /// The period.
    pub period: Period,
    /// How many usage events were ever taken.
    pub count: u64,
    /// How many of them since the period before was closed.
    pub added: u64,
    /// The nodes that had left by then.
    #[serde(default, skip_serializing_if = "Fold::is_empty")]
    pub gone: Fold,
    /// The nodes that had not, and had sent some.
    pub nodes: Vec<NodeManifest>,
    /// SHA-256 over the nodes' marks, those that had left first.
    pub hash: Digest,
}

/// Why a manifest is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestDefect {
    /// Its hash is not that of its nodes.
    #[error("its hash is {stored}, its nodes have {computed}")]
    Hash {
        /// What it says.
        stored: Digest,
        /// What its nodes give.
        computed: Digest,
    },
    /// Its count is not the sum of its nodes.
    #[error("it counts {stored} usage events, its nodes have {computed}")]
    Count {
        /// What it says.
        stored: u64,
        /// What its nodes give.
        computed: u64,
    },
    /// It does not follow the site's manifest before it.
    #[error("it counts {added} usage events after {before}, which does not give {count}")]
    Added {
        /// How many it says came to.
        added: u64,
        /// How many the one before counts.
        before: u64,
        /// How many it counts in all.
        count: u64,
    },
}

impl SiteManifest {
    /// Whether it is as it was written, after the site's manifest before it, which counted `before` usage events.
    ///
    /// # Errors
    /// The first [`ManifestDefect`].
    pub fn check(&self, before: u64) -> Result<(), ManifestDefect> {
        let whole = fold(self.gone, &self.nodes);
        if whole.hash != self.hash {
            return Err(ManifestDefect::Hash { stored: self.hash, computed: whole.hash });
        }
        if whole.count != self.count {
            return Err(ManifestDefect::Count { stored: self.count, computed: whole.count });
        }
        if before.checked_add(self.added) != Some(self.count) {
            return Err(ManifestDefect::Added { added: self.added, before, count: self.count });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::{AttemptId, IdSource, SequentialIds};

    use super::*;
    use crate::journal::UsageEvent;

    fn usage(ids: &mut dyn IdSource, count: u64) -> (NodeId, NodeUsage) {
        let mut usage = NodeUsage::default();
        for number in 1..=count {
            let event =
                UsageEvent { attempt: AttemptId::generate(ids), rank: 0, from_ms: 0, to_ms: 1, ended: true };
            usage.mark.take(number, &event);
        }
        (NodeId::generate(ids), usage)
    }

    fn manifest(site: &SiteUsage, period: &str, nodes: &[(NodeId, NodeUsage)]) -> SiteManifest {
        let nodes = nodes.iter().map(|(node, usage)| (*node, usage));
        site.manifest("seoul".parse().unwrap(), period.parse().unwrap(), nodes)
    }

    #[test]
    fn a_manifest_counts_who_is_there_who_left_and_who_began_anew() {
        let mut ids = SequentialIds::new(1);
        let (mut site, idle) = (SiteUsage::default(), usage(&mut ids, 0));
        let (one, mut two) = (usage(&mut ids, 3), usage(&mut ids, 4));
        let march = manifest(&site, "2026-03", &[idle, one, two]);
        assert_eq!((march.count, march.added, march.nodes.len()), (7, 7, 2), "who sent none is not named");
        assert_eq!(march.check(0), Ok(()));
        site.closed = march.count;
        site.leave(one.0, &one.1);
        site.leave(idle.0, &idle.1);
        two.1.begin(9);
        let april = manifest(&site, "2026-04", &[two]);
        assert_eq!((april.count, april.added, april.gone.marks), (7, 0, 1));
        assert_eq!(april.check(march.count), Ok(()));
        let text = serde_json::to_string(&april).unwrap();
        assert_eq!(serde_json::from_str::<SiteManifest>(&text).unwrap(), april);
    }

    #[test]
    fn what_was_changed_in_a_manifest_is_found() {
        let mut ids = SequentialIds::new(2);
        let right =
            manifest(&SiteUsage { closed: 2, ..SiteUsage::default() }, "2026-03", &[usage(&mut ids, 5)]);
        assert_eq!(right.check(2), Ok(()));
        let mut other = right.clone();
        other.nodes[0].mark.range = Some((1, 6));
        assert!(matches!(other.check(2), Err(ManifestDefect::Hash { .. })));
        let mut other = right.clone();
        other.nodes.clear();
        assert!(matches!(other.check(2), Err(ManifestDefect::Hash { .. })));
        let other = SiteManifest { count: 6, ..right.clone() };
        assert_eq!(other.check(2), Err(ManifestDefect::Count { stored: 6, computed: 5 }));
        let other = SiteManifest { added: 5, ..right.clone() };
        assert_eq!(other.check(2), Err(ManifestDefect::Added { added: 5, before: 2, count: 5 }));
        assert!(right.check(1).is_err(), "it does not follow");
    }
}
