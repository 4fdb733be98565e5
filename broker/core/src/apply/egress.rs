//! Charging the bytes that an attempt's inputs had to travel.

use spillway_ledger::{Payee, Subject, Usage};
use spillway_types::{AttemptId, DatasetName, GroupName, HourlyRate, UnixMs};

use super::ApplyError;
use crate::State;
use crate::entity::{Input, Moved};
use crate::moved::{fresh, is_of};

impl State {
    /// Charges bytes: to the group of the attempt, for the site or cloud that they left.
    pub(super) fn charge_egress(
        &mut self,
        id: AttemptId,
        to: Moved,
        from_bytes: u64,
        at: UnixMs,
    ) -> Result<(), ApplyError> {
        let above = self.attempts.get(&id).map(|attempt| self.above(&attempt.group)).unwrap_or_default();
        let attempt = self.attempt_mut(id)?;
        let Some((from, until)) = fresh(attempt, &to, from_bytes) else { return Ok(()) };
        let found = attempt.inputs.iter().find(|input| input.dataset == to.dataset);
        let Some(Input { dataset, from: site, payee, price, .. }) = found.cloned() else { return Ok(()) };
        let transfer = format!("{}/{dataset}/{}", to.rank, to.pass);
        // It is the sending site's, and of no instance there: an instance's own bill does not have it.
        let subject = Subject { site, instance: None, ..attempt.subject() };
        let entry = attempt.hold.charge_egress(&subject, &payee, &transfer, price, (from, until));
        match attempt.moved.iter_mut().find(|known| is_of(known, &to)) {
            Some(known) => *known = to,
            None => attempt.moved.push(to),
        }
        let Some(entry) = entry else { return Ok(()) };
        let (micros, job) = (entry.spend_micros(), attempt.job);
        attempt.cost_micros = attempt.cost_micros.saturating_add(micros);
        let usage = usage(&payee, dataset, at, above);
        self.post(entry.effective(at).using(usage), at);
        self.use_limits_for_bytes(id, micros, at);
        let job = self.job_mut(job)?;
        job.cost_micros = job.cost_micros.saturating_add(micros);
        Ok(())
    }
}

/// What the charge was for: the dataset is what was used, at an instant; hours and accelerators have no part in it.
fn usage(payee: &Payee, dataset: DatasetName, at: UnixMs, above: Vec<GroupName>) -> Usage {
    let (cloud, region) = payee.cloud().unzip();
    Usage {
        pool: None,
        class: None,
        resource: Some(dataset.to_string()),
        cloud,
        region,
        instance_type: None,
        market: None,
        from: at,
        to: at,
        offset_ms: 0,
        blocks: 0,
        rate: HourlyRate(0),
        priced: None,
        normalised_ms: None,
        on_prem_rate: None,
        list_rate: HourlyRate(0),
        above,
        datasets: vec![dataset],
    }
}
