//! A cloud machine that was launched for an attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_ledger::rates::{BillingTerms, EndCause, IdleMeter, WHOLE_PPM};
use spillway_ledger::{Payee, Subject};
use spillway_types::{
    Allocation, AttemptId, CloudName, DurationMs, GroupName, HourlyRate, InstanceId, InstanceState,
    InstanceType, JobId, Market, NodeCapacity, NodeId, PoolName, SiteName, UnixMs, UserName, instance_share,
};

/// Why an instance is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum GoneReason {
    /// We ended it, and the provider shows it gone.
    Terminated,
    /// The provider had none; nothing was launched.
    NoCapacity,
    /// The provider refused; nothing was launched.
    Refused {
        /// What it said.
        message: String,
    },
    /// It vanished at the provider without our doing: interrupted or failed.
    Vanished,
}

/// A price from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceStep {
    /// From when on.
    pub from: UnixMs,
    /// What an hour costs.
    pub rate: HourlyRate,
    /// What the same costs on demand; none where it is bought on demand, or nobody offers that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_rate: Option<HourlyRate>,
}

/// A cloud machine, from the intent on. What the provider is asked is frozen here: a repeated call is the
/// same, word for word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The intent's id: idempotency key and tag at the provider.
    pub id: InstanceId,
    /// Where it stands.
    pub state: InstanceState,
    /// The cloud.
    pub cloud: CloudName,
    /// The region.
    pub site: SiteName,
    /// The shape.
    pub instance_type: InstanceType,
    /// What its node will have.
    pub capacity: NodeCapacity,
    /// Its price at the intent: what it is asked with, and what it costs until that changes.
    pub price: HourlyRate,
    /// How it is sold.
    #[serde(default, skip_serializing_if = "Market::is_on_demand")]
    pub market: Market,
    /// What the same shape cost on demand at the intent; none where it is bought on demand, or nobody offered that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_price: Option<HourlyRate>,
    /// What its cloud's catalogue has said since, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repriced: Vec<PriceStep>,
    /// How its time is billed.
    #[serde(default)]
    pub billing: BillingTerms,
    /// The job it is launched for.
    pub job: JobId,
    /// The attempt it is launched for.
    pub attempt: AttemptId,
    /// The group of that attempt: pays for boot, idle and unused shares.
    pub group: GroupName,
    /// Who submitted the job.
    pub user: UserName,
    /// Where its agent dials: `host:port`.
    pub broker_addr: String,
    /// The CA that its agent expects.
    pub ca_fingerprint: String,
    /// The journal's position of the intent; a tag at the provider.
    pub journal: u64,
    /// When the intent was written.
    pub created: UnixMs,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// When the provider says it began to run.
    pub launched: Option<UnixMs>,
    /// When its agent first dialled in.
    pub ready: Option<UnixMs>,
    /// Since when nothing runs there.
    pub idle_since: Option<UnixMs>,
    /// When it was seen gone.
    pub gone: Option<(UnixMs, GoneReason)>,
    /// Its node.
    pub node: Option<NodeId>,
    /// What slices of attempts there have charged, in micros.
    pub charged_micros: i64,
    /// Who caused what no slice was charged.
    #[serde(default)]
    pub idle: IdleMeter,
}

impl Instance {
    /// What an hour of it costs now, as far as its cloud's catalogue has said.
    #[must_use]
    pub fn price_now(&self) -> HourlyRate {
        self.repriced.last().map_or(self.price, |step| step.rate)
    }

    /// What an hour of the same shape costs on demand now; none where it is bought on demand, or nobody offers that.
    #[must_use]
    pub fn on_demand_price_now(&self) -> Option<HourlyRate> {
        self.repriced.last().map_or(self.on_demand_price, |step| step.list_rate)
    }

    /// What an hour of it costs on demand: its own price where it was not known otherwise.
    #[must_use]
    pub fn list_price(&self) -> HourlyRate {
        self.on_demand_price_now().unwrap_or(self.price_now())
    }

    /// Notes that it costs something else from `step` on.
    pub fn reprice(&mut self, step: PriceStep) {
        self.idle.accrue(self.price_now(), step.from);
        self.repriced.push(step);
    }

    /// The pool that its node joins: the one that is called like the region; none where no pool can be.
    #[must_use]
    pub fn pool(&self) -> Option<PoolName> {
        self.site.as_str().parse().ok()
    }

    /// Its name where a bill is joined on it: the provider's id, or ours until the provider has said one.
    #[must_use]
    pub fn resource(&self) -> String {
        self.provider_id.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// When it began to run; none where that is not known. At the latest that is when its agent dialled in, whatever the
    /// provider said, or did not say.
    #[must_use]
    pub fn runs_since(&self) -> Option<UnixMs> {
        [self.launched, self.ready].into_iter().flatten().min()
    }

    /// The time that its provider bills by `at`: from the moment it ran to its end, by the provider's minimum and
    /// increment.
    #[must_use]
    pub fn billed(&self, at: UnixMs) -> DurationMs {
        let until = self.gone.as_ref().map_or(at, |(gone, _)| *gone);
        let Some(since) = self.runs_since() else {
            return DurationMs(0);
        };
        let cause = match &self.gone {
            Some((_, GoneReason::Vanished)) => EndCause::Provider,
            Some((_, GoneReason::Terminated | GoneReason::NoCapacity | GoneReason::Refused { .. }))
            | None => EndCause::User,
        };
        self.billing.billed(until.since(since), cause)
    }

    /// What it has cost by `at`, in micros: what is billed, at the price of each moment.
    #[must_use]
    pub fn cost_micros(&self, at: UnixMs) -> i64 {
        self.cost_between(0, self.billed(at).0)
    }

    /// What it costs from one moment of its life to another, in milliseconds since it ran, in micros. Telescoping: any
    /// way of cutting an interval costs the same.
    #[must_use]
    pub fn cost_between(&self, from_ms: u64, to_ms: u64) -> i64 {
        let Some(since) = self.runs_since() else { return 0 };
        let (mut cost, mut at, mut rate) = (0_i64, from_ms, self.price);
        for step in &self.repriced {
            let until = step.from.since(since).0.clamp(at, to_ms.max(at));
            cost = cost.saturating_add(rate.cost_micros(1, 1, at, until));
            (at, rate) = (until, step.rate);
        }
        cost.saturating_add(rate.cost_micros(1, 1, at, to_ms.max(at)))
    }

    /// What of that no attempt has been charged: boot, idle time and unused shares.
    #[must_use]
    pub fn overhead_micros(&self, at: UnixMs) -> i64 {
        self.cost_micros(at) - self.charged_micros
    }

    /// Who pays for its overhead, with what: those that caused unused shares and warm time, and for the rest (boot, minimum,
    /// rounding) the one that it was launched for. The amounts sum to [`Instance::overhead_micros`]. Where its provider
    /// bills nothing, nobody has caused anything.
    #[must_use]
    pub fn overheads(&self, at: UnixMs) -> Vec<(Subject, i64)> {
        let until = self.gone.as_ref().map_or(at, |(gone, _)| *gone);
        let mut owed =
            if self.billed(at).0 == 0 { BTreeMap::new() } else { self.idle.owed(self.price_now(), until) };
        let caused = owed.values().fold(0, |sum: i64, (_, micros)| sum.saturating_add(*micros));
        let rest = self.overhead_micros(at).saturating_sub(caused);
        let (subject, micros) = owed.entry(self.group.clone()).or_insert_with(|| (self.subject(), 0));
        *subject = self.subject();
        *micros = micros.saturating_add(rest);
        let here =
            |(subject, micros): (Subject, i64)| (Subject { instance: Some(self.id), ..subject }, micros);
        owed.into_values().map(here).collect()
    }

    /// The part of it that the allocation has, in millionths: the larger of its shares of the accelerators and of the
    /// CPUs.
    #[must_use]
    pub fn share_ppm(&self, allocation: &Allocation) -> u32 {
        let rate = instance_share(HourlyRate(i64::from(WHOLE_PPM)), &self.capacity, allocation);
        u32::try_from(rate.0).unwrap_or(WHOLE_PPM)
    }

    /// Whom and what the ledger's entry on its overhead is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            group: self.group.clone(),
            user: self.user.clone(),
            site: self.site.clone(),
            job: self.job,
            attempt: self.attempt,
            instance: Some(self.id),
        }
    }

    /// Who is paid for it.
    #[must_use]
    pub fn payee(&self) -> Payee {
        Payee::Cloud { cloud: self.cloud.clone(), site: self.site.clone() }
    }
}
