//! What is asked: one job, submitted by one person for one group, at one place.

use std::collections::BTreeSet;

use serde::Deserialize;
use spillway_types::{CloudName, GroupName, HourlyRate, Market, PoolName, SiteKind, SiteName, UserName};

/// What stands for the jurisdiction of an input that has none. A place in a jurisdiction of that name counts as a
/// place without one, so that an input of unknown home is at home nowhere.
pub const NO_JURISDICTION: &str = "(none)";

/// One question: may this job run there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request<'a> {
    /// Who asks, and for whom.
    pub asker: Asker<'a>,
    /// What is known of the job.
    pub job: JobFacts<'a>,
    /// What is known of the place.
    pub place: PlaceFacts<'a>,
}

/// Who submitted the job, and who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker<'a> {
    /// The person or service.
    pub user: &'a UserName,
    /// The group that pays, then each group above it, up to the root.
    pub groups: &'a [GroupName],
}

/// What is known of a job before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobFacts<'a> {
    /// Its class, where it has one.
    pub class: Option<&'a str>,
    /// Its container image; none for a process.
    pub image: Option<&'a str>,
    /// Accelerators on all nodes together; a part of one counts as one.
    pub gpus: u32,
    /// Nodes that start together.
    pub nodes: u32,
    /// Jurisdictions that the job asks for; empty means all.
    pub residency: &'a [String],
    /// What it reads.
    pub inputs: &'a [Input],
}

/// A dataset that a job reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What its owner calls it: `patient`, `licensed`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Whose law it is under; none where nobody said.
    pub jurisdiction: Option<String>,
}

/// What is known of a place: a pool, or what a cloud would launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceFacts<'a> {
    /// Its site.
    pub site: &'a SiteName,
    /// The pool; that of a cloud's region bears the region's name.
    pub pool: &'a PoolName,
    /// The site's kind.
    pub kind: SiteKind,
    /// The site's jurisdiction.
    pub jurisdiction: Option<&'a str>,
    /// The cloud; none elsewhere.
    pub provider: Option<&'a CloudName>,
    /// The place's labels.
    pub labels: &'a BTreeSet<String>,
    /// Groups that the pool is for; none means all.
    pub groups: Option<&'a BTreeSet<GroupName>>,
    /// Whether the machine can be taken back.
    pub capacity: Market,
    /// What the job is charged there, all nodes together.
    pub rate: HourlyRate,
}
