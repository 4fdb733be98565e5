//! Bytes that leave a site so that a job can run at another: what is brought, for how much, and that each byte is
//! charged once.
//!
//! Prices are those of the links when the attempt was placed. What an agent says again, or beyond what the dataset has,
//! is not charged; what it downloads again after a hash that was wrong is, since the sending provider takes it again.

use std::collections::BTreeSet;

use spillway_ledger::Payee;
use spillway_ledger::rates::EgressPrice;
use spillway_types::data::MAX_PASSES;
use spillway_types::{DataMap, DatasetName, SiteName};

use crate::State;
use crate::entity::{Attempt, Input, Moved};

/// The datasets that an agent at `site` has to get for a job that names `wanted`: those with a copy that can be read
/// from there.
pub(crate) fn inputs(state: &State, data: &DataMap, wanted: &[DatasetName], site: &SiteName) -> Vec<Input> {
    let input = |dataset: &DatasetName| {
        let (known, reading) = (data.datasets.get(dataset)?, data.reading(dataset, site)?);
        let from = reading.from;
        let payee = Payee::at(from.clone(), state.sites.get(&from).and_then(|site| site.cloud.clone()));
        let (bytes, sha256) = (known.bytes, known.sha256.clone());
        let price = EgressPrice::per_gb(reading.egress_micros_per_gb);
        Some(Input { dataset: dataset.clone(), bytes, sha256, from, payee, price })
    };
    // A job may name one twice.
    let wanted: BTreeSet<&DatasetName> = wanted.iter().collect();
    wanted.into_iter().filter_map(input).collect()
}

/// What bringing the inputs to so many parts costs at most, in micros: each part has a node of its own, which may have
/// none of them.
pub(crate) fn egress_micros(inputs: &[Input], parts: usize) -> i64 {
    let each = inputs.iter().map(|input| input.price.cost_micros(0, input.bytes));
    let each = each.fold(0, i64::saturating_add);
    each.saturating_mul(i64::try_from(parts).unwrap_or(i64::MAX))
}

/// What of a report is new: the bytes that were not charged before. Nothing of a dataset that the attempt does not
/// bring, of a download before the newest, or of one more than a part may begin.
pub(crate) fn fresh(attempt: &Attempt, to: &Moved, from_bytes: u64) -> Option<(u64, u64)> {
    let input = attempt.inputs.iter().find(|input| input.dataset == to.dataset)?;
    let known = attempt.moved.iter().find(|known| is_of(known, to));
    let from = match known {
        Some(known) if to.pass < known.pass => return None,
        Some(known) if to.pass == known.pass => from_bytes.max(known.to_bytes),
        Some(_) | None => from_bytes,
    };
    let to_bytes = to.to_bytes.min(input.bytes);
    (to.pass < MAX_PASSES && from < to_bytes).then_some((from, to_bytes))
}

/// Whether both are about the same dataset of the same part.
pub(crate) fn is_of(known: &Moved, to: &Moved) -> bool {
    (known.rank, &known.dataset) == (to.rank, &to.dataset)
}
