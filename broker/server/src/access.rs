//! The access policies as the gate that the planner and the core ask. Answers are remembered: plans ask the same of
//! the same places again and again, and evaluating a thousand policies takes milliseconds.
//!
//! Invariant: what policies cannot decide is denied, be it that one fails or that who asks is not known.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spillway_access::{Access, AccessRules, Asker, Input, JobFacts, PlaceFacts, PolicyFailure, Request};
use spillway_policies::{Gate, GateJob, GatePlace, Refused};
use spillway_types::{CloudName, GroupName, HourlyRate, Market, PoolName, SiteKind, SiteName, UserName};

/// Most answers that are remembered, at about half a kilobyte each; past it all are forgotten and asked again.
const MAX_ANSWERS: usize = 65_536;
/// Who asks where no policy names a user.
const ANYBODY: &str = "anybody";

/// The gate of these rules; none where there are no policies, since every job may run anywhere then.
#[must_use]
pub fn gate(rules: &Arc<AccessRules>) -> Option<Arc<dyn Gate>> {
    let made =
        || -> Arc<dyn Gate> { Arc::new(AccessGate { rules: Arc::clone(rules), answers: Mutex::default() }) };
    (!rules.is_empty()).then(made)
}

#[derive(Debug)]
struct AccessGate {
    rules: Arc<AccessRules>,
    answers: Mutex<HashMap<Question, Result<(), Refused>>>,
}

/// All that policies can see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: UserName,
    groups: Vec<GroupName>,
    class: Option<String>,
    image: Option<String>,
    gpus: u32,
    nodes: u32,
    residency: Vec<String>,
    inputs: Vec<Input>,
    site: SiteName,
    pool: PoolName,
    kind: SiteKind,
    jurisdiction: Option<String>,
    provider: Option<CloudName>,
    labels: BTreeSet<String>,
    pool_groups: Option<BTreeSet<GroupName>>,
    market: Market,
    rate: HourlyRate,
}

impl Gate for AccessGate {
    fn judge(&self, job: &GateJob<'_>, place: &GatePlace<'_>) -> Result<(), Refused> {
        let question = Question::of(self.asker(job)?, job, place);
        if let Some(known) = self.lock().get(&question) {
            return known.clone();
        }
        let answer = answer(self.rules.decide(&question.request()));
        let mut answers = self.lock();
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(question, answer.clone());
        answer
    }

    fn tells_users_apart(&self) -> bool {
        self.rules.names_users()
    }
}

impl AccessGate {
    fn asker(&self, job: &GateJob<'_>) -> Result<UserName, Refused> {
        if !self.rules.names_users() {
            return ANYBODY.parse::<UserName>().map_err(|error| Refused::because(error.to_string()));
        }
        let unknown =
            || Refused::because("a policy names a user, and who submitted it is not known".to_owned());
        job.user.cloned().ok_or_else(unknown)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, Result<(), Refused>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn of(user: UserName, job: &GateJob<'_>, place: &GatePlace<'_>) -> Self {
        let inputs = job.inputs.iter();
        let inputs =
            inputs.map(|data| Input { labels: data.labels.clone(), jurisdiction: data.jurisdiction.clone() });
        Self {
            user,
            groups: job.groups.iter().copied().cloned().collect(),
            class: job.class.map(ToString::to_string),
            image: job.image.map(str::to_owned),
            gpus: job.gpus,
            nodes: job.nodes,
            residency: job.residency.to_vec(),
            inputs: inputs.collect(),
            site: place.site.clone(),
            pool: place.pool.clone(),
            kind: place.kind,
            jurisdiction: place.jurisdiction.map(str::to_owned),
            provider: place.cloud.cloned(),
            labels: place.labels.cloned().unwrap_or_default(),
            pool_groups: place.groups.cloned(),
            market: place.market,
            rate: place.rate,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            asker: Asker { user: &self.user, groups: &self.groups },
            job: JobFacts {
                class: self.class.as_deref(),
                image: self.image.as_deref(),
                gpus: self.gpus,
                nodes: self.nodes,
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
                capacity: self.market,
                rate: self.rate,
            },
        }
    }
}

fn answer(access: Access) -> Result<(), Refused> {
    if access.is_allowed() {
        return Ok(());
    }
    Err(match access.failures.into_iter().next() {
        Some(PolicyFailure { policy, problem }) => {
            Refused { by: policy.into_iter().collect(), problem: Some(problem) }
        }
        None => Refused { by: access.by, problem: None },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spillway_policies::{CloudOffer, Facts, Gatekeeper, QueuedJob, Restarts};
    use spillway_types::{
        Dataset, DurationMs, Held, IndexRanges, JobId, NodeCapacity, OfferTerms, Placement, Resources,
        Standing, UnixMs,
    };

    use super::*;

    const RULES: &str = r#"
        @id("everybody") permit (principal, action, resource);
        @id("patient-data") forbid (principal, action, resource) when { context.inputs.hasTag("patient") }
            unless { resource has jurisdiction && context.inputs.getTag("patient") == [resource.jurisdiction] };
        @id("students-only-spot") forbid (principal in Group::"students", action, resource)
            when { resource.kind == Kind::"cloud" && !resource.spot };
        @id("dear") forbid (principal, action, resource) when { context.rate_micros_per_hour > 9000000 };
        @id("certified") forbid (principal, action, resource)
            when { context has class && context.class == "secret" && !resource.labels.contains("certified") };
    "#;

    fn gate_of(text: &str) -> Option<Arc<dyn Gate>> {
        gate(&Arc::new(AccessRules::from_sources(&[("rules.cedar", text)]).unwrap()))
    }

    fn keeper(text: &str) -> Gatekeeper {
        let labels = ["patient".to_owned()].into();
        let scans = Dataset { labels, jurisdiction: Some("KR".to_owned()), ..Dataset::default() };
        let facts = Facts {
            above: BTreeMap::from([("freshmen".parse().unwrap(), "students".parse().unwrap())]),
            datasets: BTreeMap::from([("scans".parse().unwrap(), scans)]),
            labels: BTreeMap::from([("seoul-1".parse().unwrap(), ["certified".to_owned()].into())]),
            clouds: BTreeMap::new(),
        };
        Gatekeeper::new(gate_of(text).unwrap(), facts)
    }

    fn job(group: &str) -> QueuedJob {
        QueuedJob {
            job: JobId::from_uuid(uuid::Uuid::nil()),
            group: group.parse().unwrap(),
            since: UnixMs(0),
            tasks: IndexRanges::span(0, 0),
            resources: Resources { gpus: None, cpus_milli: 1000, memory_mib: 1024 },
            nodes: 2,
            image: None,
            estimate: DurationMs(1),
            longest: DurationMs(1),
            placement: Placement::default(),
            class: None,
            deadline: None,
            grace: DurationMs(1),
            inputs: vec![],
            user: None,
            restarts: Restarts::Anew,
            done: DurationMs(0),
            held: Held::No,
            standing: Standing::Plain,
        }
    }

    fn offer(site: &str, jurisdiction: &str, market: Market) -> CloudOffer {
        CloudOffer {
            cloud: "sky".parse().unwrap(),
            site: site.parse().unwrap(),
            jurisdiction: Some(jurisdiction.to_owned()),
            instance_type: "big".parse().unwrap(),
            capacity: NodeCapacity { accelerators: vec![], cpus_milli: 1000, memory_mib: 1024 },
            price: HourlyRate(1),
            boot: DurationMs(1),
            available: 1,
            terms: OfferTerms { market, ..OfferTerms::default() },
        }
    }

    #[test]
    fn policies_decide_and_are_named() {
        let keeper = keeper(RULES);
        let scans = || QueuedJob { inputs: vec!["scans".parse().unwrap()], ..job("lab") };
        let secret = || QueuedJob { class: Some("secret".parse().unwrap()), ..job("lab") };
        let (korea, texas) = (("seoul-1", "KR"), ("texas-1", "US"));
        for (queued, (site, law), market, rate, by) in [
            (job("lab"), texas, Market::OnDemand, 1, None),
            (scans(), korea, Market::OnDemand, 1, None),
            (scans(), texas, Market::OnDemand, 1, Some("patient-data")),
            (job("freshmen"), texas, Market::Spot, 1, None),
            (job("freshmen"), texas, Market::OnDemand, 1, Some("students-only-spot")),
            (job("lab"), texas, Market::OnDemand, 10_000_000, Some("dear")),
            (secret(), korea, Market::OnDemand, 1, None),
            (secret(), texas, Market::OnDemand, 1, Some("certified")),
        ] {
            for _ in ["asked", "remembered"] {
                let said = keeper.admits_to_offer(&queued, &offer(site, law, market), HourlyRate(rate));
                assert_eq!(said.err().map(|refused| refused.by.join(",")).as_deref(), by, "{site} {rate}");
            }
        }
    }

    #[test]
    fn without_policies_there_is_no_gate() {
        assert!(gate(&Arc::default()).is_none());
        assert!(gate_of(RULES).is_some_and(|gate| !gate.tells_users_apart()));
    }

    #[test]
    fn what_cannot_be_decided_is_denied() {
        let eve = "@id(\"everybody\") permit (principal, action, resource);\n\
             @id(\"not-eve\") forbid (principal == User::\"eve\", action, resource);";
        let keeper = keeper(eve);
        let asked = |user: Option<&str>| {
            let queued = QueuedJob { user: user.map(|user| user.parse().unwrap()), ..job("lab") };
            let said = keeper.admits_to_offer(&queued, &offer("a", "KR", Market::OnDemand), HourlyRate(1));
            said.map_err(|refused| refused.to_string())
        };
        assert_eq!(asked(Some("ada")), Ok(()));
        assert_eq!(asked(Some("eve")).unwrap_err(), "denied by the access policy `not-eve`");
        assert!(asked(None).unwrap_err().contains("who submitted it is not known"));
        let failing = answer(Access {
            decision: spillway_access::Decision::Denied,
            by: vec![],
            failures: vec![PolicyFailure { policy: Some("x".to_owned()), problem: "too large".to_owned() }],
        });
        assert!(failing.unwrap_err().to_string().contains("policy `x` fails: too large"));
    }
}
