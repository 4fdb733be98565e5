//! The suite is tried on a cloud in memory: it passes the right one and finds every defect put into it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use spillway_types::{CloudName, HourlyRate, InstanceId, NodeCapacity, SequentialIds, SiteName, UnixMs};

use super::*;
use crate::{
    Catalogue, ConnectorError, JoinToken, LaunchError, Launched, ObservedInstance, ObservedState, Offer,
    Region,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    LaunchesAgain,
    IgnoresDifferences,
    RelaunchesEnded,
    HidesARegion,
    ForgetsJournal,
    ShowsForeign,
    EndsForeign,
    TakesForeignRequests,
    UnknownIsAnError,
    SecondEndIsAnError,
    NeverEnds,
    NoCapacityLaunches,
    LostReplyIsRefused,
    LostReplyLaunchesNothing,
    FailedTerminateIsFine,
    PartialListIsFine,
}

#[derive(Debug, Default)]
struct World {
    instances: BTreeMap<String, (LaunchRequest, ObservedState)>,
    faults: Vec<Fault>,
}

impl World {
    fn take(&mut self, fault: Fault) -> bool {
        let found = self.faults.iter().position(|set| *set == fault);
        found.is_some_and(|at| self.faults.remove(at) == fault)
    }
}

#[derive(Debug)]
struct Fake {
    name: CloudName,
    deployment: String,
    defect: Defect,
    world: Arc<Mutex<World>>,
}

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn known(&self, world: &World, request: &LaunchRequest) -> Option<Result<String, LaunchError>> {
        let mut same = world.instances.iter().filter(|(_, (known, _))| known.intent == request.intent);
        let (id, (known, state)) = same.next()?;
        if !state.exists() {
            return (!self.has(Defect::RelaunchesEnded)).then_some(Err(LaunchError::AlreadyEnded));
        }
        if self.has(Defect::LaunchesAgain) {
            return None;
        }
        let differs = known != request && !self.has(Defect::IgnoresDifferences);
        Some(if differs { Err(LaunchError::Conflict) } else { Ok(id.clone()) })
    }
}

fn offers() -> Vec<Offer> {
    let instance_type = "big".parse().unwrap();
    let (price, boot) = (HourlyRate(1), DurationMs(1));
    vec![Offer {
        instance_type,
        capacity: NodeCapacity::default(),
        price,
        boot,
        available: None,
        terms: spillway_types::OfferTerms::default(),
    }]
}

#[async_trait]
impl Connector for Fake {
    fn name(&self) -> &CloudName {
        &self.name
    }

    async fn catalogue(&self) -> Result<Catalogue, ConnectorError> {
        let region =
            |name: &str| Region { name: name.parse().unwrap(), jurisdiction: None, offers: offers() };
        Ok(Catalogue { regions: vec![region("east"), region("west")] })
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        let mut world = self.world();
        if request.deployment != self.deployment && !self.has(Defect::TakesForeignRequests) {
            return Err(LaunchError::Refused { message: "another deployment's".into() });
        }
        let id = match self.known(&world, request) {
            Some(known) => known?,
            None => format!("i-{}", world.instances.len()),
        };
        let full = world.take(Fault::NoCapacity);
        if full && !self.has(Defect::NoCapacityLaunches) {
            return Err(LaunchError::NoCapacity);
        }
        let lost = world.take(Fault::ReplyLost);
        if !(lost && self.has(Defect::LostReplyLaunchesNothing)) {
            world.instances.entry(id.clone()).or_insert((request.clone(), ObservedState::Running));
        }
        match (full, lost) {
            (true, _) => Err(LaunchError::NoCapacity),
            (_, true) if self.has(Defect::LostReplyIsRefused) => Err(LaunchError::Refused { message: id }),
            (_, true) => Err(LaunchError::Ambiguous { message: id }),
            (false, false) => Ok(Launched { provider_id: id, launched_at: UnixMs(5) }),
        }
    }

    async fn list(&self) -> Result<Vec<ObservedInstance>, ConnectorError> {
        let mut world = self.world();
        if world.take(Fault::ListFails) && !self.has(Defect::PartialListIsFine) {
            return Err(ConnectorError::Unavailable { message: "west".into() });
        }
        let shown = world.instances.iter().filter(|(_, (request, _))| {
            (request.deployment == self.deployment || self.has(Defect::ShowsForeign))
                && !(self.has(Defect::HidesARegion) && request.region.as_str() == "west")
        });
        Ok(shown
            .map(|(id, (request, state))| ObservedInstance {
                provider_id: id.clone(),
                region: request.region.clone(),
                intent: Some(request.intent),
                journal: (!self.has(Defect::ForgetsJournal)).then_some(request.journal),
                deployment: request.deployment.clone(),
                instance_type: request.instance_type.clone(),
                state: *state,
                launched_at: UnixMs(5),
                interruption: None,
            })
            .collect())
    }

    async fn terminate(&self, _region: &SiteName, provider_id: &str) -> Result<(), ConnectorError> {
        let mut world = self.world();
        let refused = Err(ConnectorError::Refused { message: provider_id.into() });
        let failing = world.take(Fault::TerminateFails);
        match world.instances.get_mut(provider_id) {
            None if self.has(Defect::UnknownIsAnError) => refused,
            None => Ok(()),
            Some((request, _)) if request.deployment != self.deployment && !self.has(Defect::EndsForeign) => {
                refused
            }
            Some((_, ObservedState::Gone)) if self.has(Defect::SecondEndIsAnError) => refused,
            Some(_) if failing && self.has(Defect::FailedTerminateIsFine) => Ok(()),
            Some(_) if failing => Err(ConnectorError::Timeout { after: DurationMs(1) }),
            Some(_) if self.has(Defect::NeverEnds) => Ok(()),
            Some((_, state)) => {
                *state = ObservedState::Gone;
                Ok(())
            }
        }
    }
}

struct FakeHarness {
    defect: Defect,
    unsupported: bool,
    world: Arc<Mutex<World>>,
    ids: Mutex<SequentialIds>,
}

impl FakeHarness {
    fn new(defect: Defect) -> Self {
        let ids = Mutex::new(SequentialIds::new(1));
        Self { defect, unsupported: false, world: Arc::default(), ids }
    }
}

#[async_trait]
impl Harness for FakeHarness {
    async fn connect(&self, deployment: &str) -> Box<dyn Connector> {
        let (name, deployment) = ("fake".parse().unwrap(), deployment.to_owned());
        Box::new(Fake { name, deployment, defect: self.defect, world: Arc::clone(&self.world) })
    }

    fn request(&self) -> LaunchRequest {
        LaunchRequest {
            intent: InstanceId::generate(&mut *self.ids.lock().unwrap()),
            deployment: "ours".into(),
            journal: 3,
            region: "east".parse().unwrap(),
            instance_type: "big".parse().unwrap(),
            market: spillway_types::Market::OnDemand,
            broker_addr: "127.0.0.1:1".into(),
            ca_fingerprint: "ab".into(),
            join_token: JoinToken::new("t".into()),
            boot_timeout: DurationMs::from_secs(60),
        }
    }

    fn foreign_deployment(&self) -> String {
        "theirs".into()
    }

    fn unknown_id(&self) -> String {
        "i-none".into()
    }

    async fn inject(&self, fault: Fault) -> Injection {
        if self.unsupported {
            return Injection::Unsupported;
        }
        self.world.lock().unwrap().faults.push(fault);
        Injection::Done
    }

    fn settle(&self) -> DurationMs {
        DurationMs(0)
    }

    fn ending(&self) -> DurationMs {
        DurationMs(20)
    }

    async fn clean_up(&self) {}
}

#[tokio::test]
async fn a_right_connector_passes_every_check() {
    let outcomes = check_all(async || FakeHarness::new(Defect::None)).await.unwrap();
    assert_eq!(outcomes.len(), Check::ALL.len());
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Passed), "{outcomes:?}");
}

#[tokio::test]
async fn checks_without_their_fault_are_skipped_and_say_so() {
    let outcomes = check_all(async || FakeHarness { unsupported: true, ..FakeHarness::new(Defect::None) })
        .await
        .unwrap();
    let skipped = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Skipped).count();
    assert_eq!(skipped, 4, "{outcomes:?}");
}

#[tokio::test]
async fn every_defect_is_found_by_the_check_that_is_for_it() {
    for (defect, check) in [
        (Defect::LaunchesAgain, Check::LaunchIsIdempotent),
        (Defect::LaunchesAgain, Check::TwoAtOnceGiveOne),
        (Defect::IgnoresDifferences, Check::DifferentRequestConflicts),
        (Defect::RelaunchesEnded, Check::LaunchAfterTerminate),
        (Defect::HidesARegion, Check::ListIsComplete),
        (Defect::ForgetsJournal, Check::ListIsComplete),
        (Defect::ShowsForeign, Check::ForeignIsUntouched),
        (Defect::EndsForeign, Check::ForeignIsUntouched),
        (Defect::TakesForeignRequests, Check::ForeignIsUntouched),
        (Defect::UnknownIsAnError, Check::TerminateUnknown),
        (Defect::SecondEndIsAnError, Check::TerminateTwice),
        (Defect::NeverEnds, Check::TerminateTwice),
        (Defect::NoCapacityLaunches, Check::NoCapacityLeavesNothing),
        (Defect::LostReplyIsRefused, Check::LostReplyIsAmbiguous),
        (Defect::LostReplyLaunchesNothing, Check::LostReplyIsAmbiguous),
        (Defect::FailedTerminateIsFine, Check::FailedTerminateIsRepeated),
        (Defect::PartialListIsFine, Check::PartialListIsAnError),
    ] {
        let found = check.run(&FakeHarness::new(defect)).await;
        assert!(found.is_err(), "{defect:?} passes {check:?}");
    }
}
