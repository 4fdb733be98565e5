//! Requests to test with: a world owns what a request borrows.

use std::collections::BTreeSet;

use spillway_types::{CloudName, GroupName, HourlyRate, Market, PoolName, SiteKind, SiteName, UserName};

use crate::request::{Asker, Input, JobFacts, PlaceFacts, Request};

/// Everything of a request. By default the smallest: nothing optional is there.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) user: UserName,
    pub(crate) groups: Vec<GroupName>,
    pub(crate) class: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) gpus: u32,
    pub(crate) residency: Vec<String>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) site: SiteName,
    pub(crate) pool: PoolName,
    pub(crate) kind: SiteKind,
    pub(crate) jurisdiction: Option<String>,
    pub(crate) provider: Option<CloudName>,
    pub(crate) labels: BTreeSet<String>,
    pub(crate) pool_groups: Option<BTreeSet<GroupName>>,
    pub(crate) capacity: Market,
}

impl World {
    pub(crate) fn smallest() -> Self {
        Self {
            user: "ada".parse().unwrap(),
            groups: vec!["vision".parse().unwrap()],
            class: None,
            image: None,
            gpus: 0,
            residency: Vec::new(),
            inputs: Vec::new(),
            site: "home".parse().unwrap(),
            pool: "dgx".parse().unwrap(),
            kind: SiteKind::OnPrem,
            jurisdiction: None,
            provider: None,
            labels: BTreeSet::new(),
            pool_groups: None,
            capacity: Market::OnDemand,
        }
    }

    /// Everything optional is there.
    pub(crate) fn full() -> Self {
        let group = |name: &str| name.parse::<GroupName>().unwrap();
        Self {
            groups: vec![group("vision"), group("research"), group("university")],
            class: Some("batch".into()),
            image: Some("pytorch:2".into()),
            gpus: u32::MAX,
            residency: vec!["de".into(), "fr".into()],
            inputs: vec![
                Input { labels: ["patient".into(), "x".into()].into(), jurisdiction: Some("de".into()) },
                Input { labels: ["patient".into()].into(), jurisdiction: None },
            ],
            kind: SiteKind::Cloud,
            jurisdiction: Some("de".into()),
            provider: Some("aws".parse().unwrap()),
            labels: ["certified".into()].into(),
            pool_groups: Some([group("vision"), group("speech")].into()),
            capacity: Market::Spot,
            ..Self::smallest()
        }
    }

    /// Both, and what lies at the edges.
    pub(crate) fn every() -> Vec<Self> {
        let personal = Self { kind: SiteKind::Personal, pool_groups: Some(BTreeSet::new()), ..Self::full() };
        let nobody = Self { groups: Vec::new(), ..Self::smallest() };
        vec![Self::smallest(), Self::full(), personal, nobody]
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            asker: Asker { user: &self.user, groups: &self.groups },
            job: JobFacts {
                class: self.class.as_deref(),
                image: self.image.as_deref(),
                gpus: self.gpus,
                nodes: 1,
                residency: &self.residency,
                inputs: &self.inputs,
            },
            place: PlaceFacts {
                site: &self.site,
                pool: &self.pool,
                kind: self.kind,
                jurisdiction: self.jurisdiction.as_deref(),
                provider: self.provider.as_ref(),
                labels: &self.labels,
                groups: self.pool_groups.as_ref(),
                capacity: self.capacity,
                rate: HourlyRate(i64::MAX),
            },
        }
    }
}
