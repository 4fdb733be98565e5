//! Drives the connectors: for each cloud one task that compares what should be true there with what is, and
//! asks for the difference. Safe to repeat at any point: launches carry their intent's id, and what is at the
//! provider is read from the provider.

mod drive;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spillway_connector_api::{Catalogue, Connector};
use spillway_core::Command;
use spillway_core::entity::{Pool, Site};
use spillway_policies::CloudOffer;
use spillway_types::{CloudName, DurationMs, HourlyRate, InstanceType, PoolName, SiteKind, SiteName, Tariff};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Engine, EngineError};
use crate::secrets::InstanceKey;
use crate::settings::Tuning;

/// Most that one offer says is to be had where the provider names no number.
const UNKNOWN_CAPACITY: u32 = 1000;
/// How long to wait before an unreachable provider is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What the tasks of all clouds share.
#[derive(Debug)]
pub struct Clouds {
    engine: Engine,
    key: InstanceKey,
    deployment: String,
    tuning: Tuning,
    offers: Mutex<BTreeMap<CloudName, Vec<CloudOffer>>>,
    /// Shapes that were full, and until when they are not asked for, by the broker's monotonic clock.
    full_until: Mutex<BTreeMap<(CloudName, SiteName, InstanceType), u64>>,
    problems: watch::Sender<BTreeMap<CloudName, Option<String>>>,
    stop: CancellationToken,
}

impl Clouds {
    /// For the clouds of this deployment.
    #[must_use]
    pub fn new(
        engine: Engine,
        key: InstanceKey,
        deployment: String,
        tuning: Tuning,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (offers, full_until, problems) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        Arc::new(Self { engine, key, deployment, tuning, offers, full_until, problems, stop })
    }

    /// Every cloud, each with what its connector said last where that was an error.
    #[must_use]
    pub fn problems(&self) -> watch::Receiver<BTreeMap<CloudName, Option<String>>> {
        self.problems.subscribe()
    }

    fn note_problem(&self, cloud: &CloudName, problem: Option<&str>) {
        let problem = problem.map(str::to_owned);
        self.problems.send_if_modified(|problems| {
            problems.insert(cloud.clone(), problem.clone()).is_none_or(|before| before != problem)
        });
    }

    /// Declares the cloud's regions as sites, whose pools bear these labels, and tells the engine what it offers.
    ///
    /// # Errors
    /// A sentence on what could not be read or written.
    pub async fn introduce(
        &self,
        connector: &dyn Connector,
        labels: &BTreeSet<String>,
    ) -> Result<(), String> {
        let catalogue = connector.catalogue().await.map_err(|error| error.to_string())?;
        for region in &catalogue.regions {
            let site = Site {
                name: region.name.clone(),
                kind: SiteKind::Cloud,
                jurisdiction: region.jurisdiction.clone(),
                cloud: Some(connector.name().clone()),
            };
            let name: PoolName = region.name.as_str().parse().map_err(|error| format!("{error}"))?;
            let tariff = Tariff { per_gpu: HourlyRate(0), per_cpu: HourlyRate(0) };
            let (site_name, labels) = (region.name.clone(), labels.clone());
            let pool = Pool { name, site: site_name, tariff, groups: None, labels };
            for command in [Command::DeclareSite(site), Command::DeclarePool(pool)] {
                match self.engine.command(command).await {
                    Ok(_) | Err(EngineError::Recovery(_)) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        let offers = offers_of(connector.name(), &catalogue);
        self.lock_offers().insert(connector.name().clone(), offers);
        self.note_problem(connector.name(), None);
        self.tell_offers().await;
        Ok(())
    }

    /// Drives one cloud until told to stop. `listed` is told once the first complete listing was compared.
    pub async fn drive(
        self: Arc<Self>,
        connector: Arc<dyn Connector>,
        listed: tokio::sync::oneshot::Sender<()>,
    ) {
        let mut driver = drive::Driver::new(Arc::clone(&self), connector);
        let mut listed = Some(listed);
        let mut revision = self.engine.revision();
        let mut last_sweep = None;
        while !self.stop.is_cancelled() {
            let now = self.clock().elapsed_ms();
            if last_sweep.is_none_or(|at: u64| now.saturating_sub(at) >= self.tuning.sweep.0.0) {
                match driver.sweep().await {
                    Ok(()) => {
                        self.note_problem(driver.name(), None);
                        last_sweep = Some(now);
                        if let Some(listed) = listed.take() {
                            listed.send(()).ok();
                        }
                    }
                    Err(problem) => {
                        tracing::warn!(cloud = %driver.name(), %problem, "the cloud cannot be listed; trying again");
                        self.note_problem(driver.name(), Some(&problem));
                    }
                }
                self.tell_offers().await;
            }
            let busy = if self.engine.mode().acts() { driver.work().await } else { drive::Busy::No };
            let pause = match (busy, last_sweep) {
                (drive::Busy::Yes, _) | (_, None) => RETRY,
                (drive::Busy::No, Some(_)) => self.tuning.sweep.0.to_std().min(Duration::from_secs(5)),
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = revision.changed(), if busy == drive::Busy::No => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn clock(&self) -> Clock {
        self.engine.clock()
    }

    /// Remembers that this shape is not to be had just now.
    async fn note_full(&self, cloud: &CloudName, site: &SiteName, shape: &InstanceType) {
        let until = self.clock().elapsed_ms() + self.tuning.no_capacity_pause.0.0;
        self.lock_full().insert((cloud.clone(), site.clone(), shape.clone()), until);
        self.tell_offers().await;
    }

    async fn tell_offers(&self) {
        let now = self.clock().elapsed_ms();
        self.lock_full().retain(|_, until| *until > now);
        let full = self.lock_full().clone();
        let mut offers: Vec<CloudOffer> = self.lock_offers().values().flatten().cloned().collect();
        for offer in &mut offers {
            if full.contains_key(&(offer.cloud.clone(), offer.site.clone(), offer.instance_type.clone())) {
                offer.available = 0;
            }
        }
        self.engine.set_offers(offers).await;
        match self.engine.command(Command::RepriceInstances).await {
            // In recovery nothing changes; the next catalogue is noted when it is over.
            Ok(_) | Err(EngineError::Recovery(_) | EngineError::Stopped) => {}
            Err(error @ (EngineError::Refused(_) | EngineError::Store(_))) => {
                tracing::warn!(%error, "new prices of instances are not noted; they are with the next catalogue");
            }
        }
    }

    fn lock_offers(&self) -> std::sync::MutexGuard<'_, BTreeMap<CloudName, Vec<CloudOffer>>> {
        self.offers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_full(&self) -> std::sync::MutexGuard<'_, BTreeMap<(CloudName, SiteName, InstanceType), u64>> {
        self.full_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn offers_of(cloud: &CloudName, catalogue: &Catalogue) -> Vec<CloudOffer> {
    let regions = catalogue.regions.iter();
    let offers = regions.flat_map(|region| {
        region.offers.iter().map(move |offer| CloudOffer {
            cloud: cloud.clone(),
            site: region.name.clone(),
            jurisdiction: region.jurisdiction.clone(),
            instance_type: offer.instance_type.clone(),
            capacity: offer.capacity.clone(),
            price: offer.price,
            boot: offer.boot,
            available: offer.available.unwrap_or(UNKNOWN_CAPACITY),
            terms: offer.terms,
        })
    });
    offers.collect()
}

/// What a launch request says of how long the machine may take.
const fn boot_timeout(tuning: &Tuning) -> DurationMs {
    tuning.boot.0
}
