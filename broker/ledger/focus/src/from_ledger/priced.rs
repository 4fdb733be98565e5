//! What was sold, how much of it, and at which price.

use std::collections::{BTreeMap, BTreeSet};

use spillway_ledger::{Amendment, Entry, EntryKind, Usage};
use spillway_types::{DatasetName, HourlyRate, Market};

use crate::Quantity;
use crate::charge::{Nature, Priced, Pricing, Service};

/// Picounits in a unit.
const PICO: i128 = 1_000_000_000_000;
/// Hundredths of an accelerator in a whole one.
const BLOCKS_PER_GPU: u64 = 100;
/// Picogigabytes in a byte, and micros of a byte's price in those of a gigabyte's.
const PICO_GB_PER_BYTE: i128 = 1000;
const BYTES_PER_GB: i128 = 1_000_000_000;

/// The unit of what was used of accelerators.
pub(super) const GPU_HOURS: &str = "GPU-Hours";

/// What was sold.
pub(super) fn service(entry: &Entry) -> Service {
    let in_cloud = entry.usage().is_some_and(|usage| usage.cloud.is_some());
    let (name, category, subcategory) = match (entry.kind(), in_cloud) {
        (EntryKind::Egress, _) => ("Data transfer", "Networking", "Network Connectivity"),
        (_, true) => ("Cloud instances", "Compute", "Virtual Machines"),
        (_, false) => ("GPU pool", "Compute", "Other (Compute)"),
    };
    Service { name: name.to_owned(), category, subcategory }
}

/// What kind of charge an entry is, with its prices. An entry that does not say what was used was written by a version
/// that did not note it: it is an adjustment.
pub(super) fn nature(entry: &Entry) -> Nature {
    let priced = match (entry.kind(), entry.usage()) {
        (EntryKind::Charge, Some(usage)) => of_slice(entry, usage),
        (EntryKind::Overhead, Some(_)) if original_micros(entry) < 0 => return Nature::Credit,
        (EntryKind::Overhead, Some(usage)) => of_overhead(entry, usage),
        (EntryKind::Egress, _) => of_bytes(entry),
        (EntryKind::Charge | EntryKind::Overhead, None)
        | (EntryKind::Overrun | EntryKind::Hold | EntryKind::Release, _) => None,
    };
    priced.map_or(Nature::Adjustment, Nature::Usage)
}

/// What the entry charges, or charged before it was taken back.
fn original_micros(entry: &Entry) -> i64 {
    if takes_back(entry) { entry.spend_micros().saturating_neg() } else { entry.spend_micros() }
}

fn takes_back(entry: &Entry) -> bool {
    matches!(entry.amends(), Some(Amendment::Reverses { .. }))
}

fn signed(entry: &Entry, quantity: Quantity) -> Quantity {
    if takes_back(entry) { quantity.negated() } else { quantity }
}

/// Hours of the part, counted as the ledger counts their cost: from the start of the use. A replacement says what it
/// should have been in money and accelerator time, so its hours are those that cost as much.
fn of_slice(entry: &Entry, usage: &Usage) -> Option<Priced> {
    let (from, to) = (usage.offset_ms, usage.offset_ms.saturating_add(usage.span_ms()));
    let hours = match entry.amends() {
        Some(Amendment::Replaces { .. }) => hours_for(entry.spend_micros(), usage.rate)
            .unwrap_or_else(|| Quantity::hours(1, 0, entry.gpu_ms() * BLOCKS_PER_GPU / usage.blocks.max(1))),
        Some(Amendment::Reverses { .. }) | None => Quantity::hours(1, from, to),
    };
    let consumed = match (entry.amends(), usage.blocks) {
        (_, 0) => (signed(entry, hours), "Hours"),
        (Some(Amendment::Replaces { .. }), _) => (Quantity::hours(1, 0, entry.gpu_ms()), GPU_HOURS),
        (Some(Amendment::Reverses { .. }) | None, blocks) => {
            let until = |ms: u64| gpu_ms(blocks, ms);
            (signed(entry, Quantity::hours(1, until(from), until(to))), GPU_HOURS)
        }
    };
    let size = match &usage.class {
        Some(class) => format!("{class}x{}", accelerators(usage.blocks)),
        None => "cpu".to_owned(),
    };
    let meter = if usage.blocks == 0 { "CPU time" } else { "GPU time" };
    Some(priced(entry, usage, (meter, &size), signed(entry, hours), consumed))
}

/// Accelerator time that has accumulated after so many milliseconds of use.
fn gpu_ms(blocks: u64, ms: u64) -> u64 {
    let gpu_ms = u128::from(blocks) * u128::from(ms) / u128::from(BLOCKS_PER_GPU);
    u64::try_from(gpu_ms).unwrap_or(u64::MAX)
}

/// Hours of the whole instance, as many as cost what nobody's slice was charged.
fn of_overhead(entry: &Entry, usage: &Usage) -> Option<Priced> {
    let hours = signed(entry, hours_for(original_micros(entry), usage.rate)?);
    Some(priced(entry, usage, ("Instance overhead", "overhead"), hours, (Quantity::ZERO, GPU_HOURS)))
}

/// The hours that cost so much at a rate, rounded down; none where they are free.
fn hours_for(micros: i64, rate: HourlyRate) -> Option<Quantity> {
    (rate.0 > 0).then(|| Quantity(i128::from(micros) * PICO / i128::from(rate.0)))
}

fn priced(
    entry: &Entry,
    usage: &Usage,
    (meter, size): (&str, &str),
    quantity: Quantity,
    consumed: (Quantity, &str),
) -> Priced {
    let (rate, list) = (usage.rate.0.max(0), usage.list_rate.0.max(0));
    let spot = usage.market == Some(Market::Spot);
    let (site, what) = (&entry.subject().site, what_of(usage));
    let sku_id = match (&usage.cloud, spot) {
        (Some(cloud), true) => format!("{cloud}/{site}/{what}/{size}/spot"),
        (Some(cloud), false) => format!("{cloud}/{site}/{what}/{size}"),
        (None, _) => format!("{site}/{what}/{size}"),
    };
    let mut details = BTreeMap::new();
    let mut tell = |key: &str, value: Option<String>| {
        details.extend(value.map(|value| (key.to_owned(), value)));
    };
    tell("x_GpuClass", usage.class.as_ref().map(ToString::to_string));
    tell("x_InstanceType", usage.instance_type.as_ref().map(ToString::to_string));
    tell("x_GpuCount", Some(accelerators(usage.blocks)).filter(|_| usage.blocks > 0));
    Priced {
        sku_price_id: price_id(&sku_id, rate, list),
        sku_id,
        meter: meter.to_owned(),
        details,
        pricing: if spot { Pricing::Dynamic } else { Pricing::Standard },
        list_unit_micros: list,
        contracted_unit_micros: rate,
        quantity,
        unit: "Hours".to_owned(),
        consumed: Some((consumed.0, consumed.1.to_owned())),
    }
}

/// The instance's type, or the pool; a dash where neither is known.
fn what_of(usage: &Usage) -> String {
    let (kind, pool) = (usage.instance_type.as_ref(), usage.pool.as_ref());
    kind.map(ToString::to_string).or_else(|| pool.map(ToString::to_string)).unwrap_or_else(|| "-".to_owned())
}

/// The SKU with the price in micros, and the list price where it is another.
fn price_id(sku_id: &str, rate: i64, list: i64) -> String {
    if rate == list { format!("{sku_id}@{rate}") } else { format!("{sku_id}@{rate}-{list}") }
}

/// Bytes that left a site. The ledger has their cost and their number; the price of a gigabyte follows, rounded up to
/// a micro.
fn of_bytes(entry: &Entry) -> Option<Priced> {
    let bytes = bytes(entry.key())?;
    let micros = i128::from(original_micros(entry).max(0));
    let price = i64::try_from((micros * BYTES_PER_GB + bytes - 1) / bytes).ok()?;
    let sku_id = format!("{}/egress", entry.subject().site);
    let quantity = signed(entry, Quantity(bytes * PICO_GB_PER_BYTE));
    Some(Priced {
        sku_price_id: price_id(&sku_id, price, price),
        sku_id,
        meter: "Egress".to_owned(),
        details: BTreeMap::new(),
        pricing: Pricing::Standard,
        list_unit_micros: price,
        contracted_unit_micros: price,
        quantity,
        unit: "GB".to_owned(),
        consumed: Some((quantity, "GB".to_owned())),
    })
}

/// The number of bytes of a transfer, from its key: `.../egress/TRANSFER/FROM-TO`, with or without an amendment.
fn bytes(key: &str) -> Option<i128> {
    let (_, rest) = key.split_once("/egress/")?;
    let mut ends = rest.split('/').filter_map(|segment| {
        let (from, to) = segment.split_once('-')?;
        Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?))
    });
    let (from, to) = ends.next_back()?;
    Some(i128::from(to.checked_sub(from)?)).filter(|bytes| *bytes > 0)
}

/// What a slice in a cloud costs on demand; on-prem nobody asked what a cloud would have taken.
pub(super) fn on_demand_micros(entry: &Entry) -> Option<i64> {
    let usage = entry.usage().filter(|usage| usage.cloud.is_some() && entry.kind() == EntryKind::Charge)?;
    let to = usage.offset_ms.saturating_add(usage.span_ms());
    let micros = usage.list_rate.cost_micros(1, 1, usage.offset_ms, to).max(0);
    Some(if takes_back(entry) { -micros } else { micros })
}

/// Whole accelerators, or a fraction with its decimals: `4`, `0.25`.
fn accelerators(blocks: u64) -> String {
    let (whole, rest) = (blocks / BLOCKS_PER_GPU, blocks % BLOCKS_PER_GPU);
    let text = format!("{whole}.{rest:02}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The job's inputs, as a tag.
pub(super) fn tags(usage: &Usage) -> BTreeMap<String, String> {
    let names: BTreeSet<&str> = usage.datasets.iter().map(DatasetName::as_str).collect();
    let joined = names.into_iter().collect::<Vec<_>>().join(",");
    if joined.is_empty() { BTreeMap::new() } else { BTreeMap::from([("datasets".to_owned(), joined)]) }
}

/// What a person reads.
pub(super) fn description(entry: &Entry) -> String {
    let site = &entry.subject().site;
    let what = match (entry.kind(), entry.usage()) {
        (EntryKind::Charge, Some(usage)) => {
            let size = match &usage.class {
                Some(class) => format!("{} {class}", accelerators(usage.blocks)),
                None => "CPUs".to_owned(),
            };
            format!("{size} of {} at {site}", what_of(usage))
        }
        (EntryKind::Overhead, Some(usage)) => {
            format!("Boot, idle time and unused shares of {} at {site}", what_of(usage))
        }
        (EntryKind::Egress, _) => format!("Bytes that left {site}"),
        (EntryKind::Overrun, _) => format!("Use above the hold at {site}"),
        (EntryKind::Charge | EntryKind::Overhead | EntryKind::Hold | EntryKind::Release, _) => {
            format!("{} at {site}, without details", entry.kind().as_str())
        }
    };
    match entry.amends() {
        Some(Amendment::Reverses { .. }) => format!("Reversal of: {what}"),
        Some(Amendment::Replaces { .. }) => format!("Corrected: {what}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_are_printed_as_people_write_them() {
        for (blocks, text) in [(400, "4"), (25, "0.25"), (150, "1.5"), (1000, "10"), (0, "0"), (1, "0.01")] {
            assert_eq!(accelerators(blocks), text);
        }
    }

    #[test]
    fn the_bytes_of_a_transfer_are_in_its_key() {
        for (key, expected) in [
            ("att_1/egress/imagenet/0-2000000000", Some(2_000_000_000)),
            ("att_1/egress/a-b/5-7/reversal", Some(2)),
            ("att_1/egress/1-9/5-7", Some(2)),
            ("att_1/egress/imagenet/7-7", None),
            ("att_1/egress/imagenet/9-7", None),
            ("att_1/0/usage/0-5", None),
        ] {
            assert_eq!(bytes(key), expected, "{key}");
        }
    }
}
