//! Sites, pools, nodes, and the tokens that machines join with.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_ledger::journal::NodeUsage;
use spillway_types::{
    Allocation, AttemptId, CloudName, FreeResources, GroupName, InstanceId, Inventory, JoinTokenId, NodeId,
    NodeState, PoolName, SiteKind, SiteName, Tariff, UnixMs,
};

/// A place with one locality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// Its kind.
    pub kind: SiteKind,
    /// Whose law rules there, for residency rules.
    pub jurisdiction: Option<String>,
    /// The cloud whose region it is.
    pub cloud: Option<CloudName>,
}

/// Nodes of one site under one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Its site.
    pub site: SiteName,
    /// What its use costs. Cloud pools charge the instance's price instead.
    pub tariff: Tariff,
    /// Groups that may use it; none means all.
    pub groups: Option<BTreeSet<GroupName>>,
    /// What its owner says of it, for access policies: `patient-certified`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
}

/// What a join token lets a machine become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinScope {
    /// The pool it joins.
    pub pool: PoolName,
    /// The user who asked for the token.
    pub issuer: String,
}

/// A single-use, expiring token, known by its hash only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its public handle.
    pub id: JoinTokenId,
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
    /// What it is good for.
    pub scope: JoinScope,
    /// Not good from this moment on.
    pub expires: UnixMs,
    /// Who redeemed it: the node and the SHA-256 of its public key.
    pub redeemed: Option<(NodeId, String)>,
}

/// One machine that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it stands.
    pub state: NodeState,
    /// Its site.
    pub site: SiteName,
    /// Its pool.
    pub pool: PoolName,
    /// The instance it is the agent of.
    pub instance: Option<InstanceId>,
    /// SHA-256 of its public key, in hexadecimal.
    pub key_hash: String,
    /// Its host name: from its enrolment, then from its inventory.
    pub hostname: String,
    /// Grows with every session; an older one's messages are refused.
    pub epoch: u64,
    /// The boot nonce of the newest session.
    pub boot_nonce: u64,
    /// What it has; none before its first session.
    pub inventory: Option<Inventory>,
    /// The newest event of its spool that is durable here.
    pub acked: u64,
    /// What is known of its usage events.
    #[serde(default)]
    pub usage: NodeUsage,
    /// What each attempt has of it, those that still wait for others of their gang included.
    pub parts: BTreeMap<AttemptId, Allocation>,
    /// When its state changed last.
    pub since: UnixMs,
    /// Whether a person said that it takes no more work: that outlives its sessions.
    pub cordoned: bool,
}

impl Node {
    /// What of it is free now; none before its first session.
    #[must_use]
    pub fn free(&self) -> Option<FreeResources> {
        let capacity = &self.inventory.as_ref()?.capacity;
        let mut free = FreeResources::all_of(capacity);
        for allocation in self.parts.values() {
            // A part may hold what the node no longer reports; the rest is still counted.
            if free.take(allocation).is_err() {
                let without_gpus = Allocation { shares: vec![], mig: vec![], ..allocation.clone() };
                free.take(&without_gpus).ok();
            }
        }
        Some(free)
    }
}
