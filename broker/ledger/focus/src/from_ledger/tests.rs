//! What each kind of entry becomes.

use spillway_ledger::journal::{Journal, Posted, replacement, reversal};
use spillway_ledger::rates::EgressPrice;
use spillway_ledger::{Hold, Payee, PricedIn, Slice, Subject, overhead_entry};
use spillway_types::{AttemptId, HourlyRate, JobId, Market, SequentialIds};

use super::*;
use crate::charge::Pricing;
use crate::{Decimal, Exporter, Scope, Status, Version, check_csv};

const HOUR: i64 = 3_600_000;
/// 2026-11-01T00:00:00Z.
const NOVEMBER: i64 = 1_793_491_200_000;

fn month() -> Month {
    "2026-11".parse().unwrap()
}

fn subject() -> Subject {
    let mut ids = SequentialIds::new(3);
    Subject {
        group: "vision".parse().unwrap(),
        user: "ada".parse().unwrap(),
        site: "us-east-1".parse().unwrap(),
        job: JobId::generate(&mut ids),
        attempt: AttemptId::generate(&mut ids),
        instance: None,
    }
}

fn payee() -> Payee {
    Payee::Cloud { cloud: "aws".parse().unwrap(), site: "us-east-1".parse().unwrap() }
}

/// Half of a spot instance, from so many hours after the month's begin to so many.
fn usage(from: i64, to: i64) -> Usage {
    Usage {
        pool: Some("us-east-1".parse().unwrap()),
        class: Some("H100".parse().unwrap()),
        resource: Some("i-0abc".to_owned()),
        cloud: Some("aws".parse().unwrap()),
        region: Some("us-east-1".parse().unwrap()),
        instance_type: Some("p5.48xlarge".parse().unwrap()),
        market: Some(Market::Spot),
        from: UnixMs(NOVEMBER + from * HOUR),
        to: UnixMs(NOVEMBER + to * HOUR),
        offset_ms: 0,
        blocks: 400,
        rate: HourlyRate(10_000_000),
        list_rate: HourlyRate(49_160_000),
        normalised_ms: Some(108_000_000),
        on_prem_rate: None,
        above: vec!["org".parse().unwrap(), "science".parse().unwrap()],
        datasets: vec!["web".parse().unwrap(), "imagenet".parse().unwrap()],
        priced: None,
    }
}

/// A slice of `hours`, of which the hold covers one.
fn slice(hours: i64) -> Vec<Entry> {
    let (mut hold, _) = Hold::place(&subject(), 10_000_000);
    let to_ms = u64::try_from(hours * HOUR).unwrap();
    let slice = Slice { rank: 0, from_ms: 0, to_ms, rate: HourlyRate(10_000_000), gpu_blocks: 400 };
    let of = usage(0, hours);
    let entries = hold.charge(&subject(), &payee(), &slice);
    entries.into_iter().map(|entry| entry.effective(of.from).using(of.clone())).collect()
}

fn post(journal: &mut Journal, entry: Entry) {
    let at = entry.effective_at().unwrap_or(UnixMs(NOVEMBER + 20 * HOUR));
    let posted = journal.post(&Fact::Entry(entry), at, UnixMs(NOVEMBER + 20 * HOUR)).unwrap();
    assert!(matches!(posted, Posted::New(_)));
}

/// The charges of what is posted; their file has no finding.
fn charges(entries: impl IntoIterator<Item = Entry>) -> Vec<Charge> {
    let mut journal = Journal::new(Zone::utc());
    entries.into_iter().for_each(|entry| post(&mut journal, entry));
    let mut maker = FromLedger::new(month(), Zone::utc(), Currency::USD).unwrap();
    let mut charges: Vec<Charge> =
        journal.records().iter().flat_map(|record| maker.record(record).unwrap()).collect();
    charges.extend(maker.finish());
    let scope = Scope {
        version: Version::V1_3,
        period: maker.billing(),
        status: Status::Provisional,
        currency: Currency::USD,
    };
    let mut file = vec![];
    let mut exporter = Exporter::new(scope, "x.csv", &mut file).unwrap();
    charges.iter().for_each(|charge| exporter.push(charge).unwrap());
    let manifest = exporter.finish().unwrap();
    assert_eq!(check_csv(file.as_slice(), None, Some(&manifest)).unwrap().findings, []);
    charges
}

fn priced(charge: &Charge) -> &crate::charge::Priced {
    let Nature::Usage(priced) = &charge.nature else { panic!("{charge:?} has no price") };
    priced
}

#[test]
fn a_slice_and_its_overrun_are_one_charge_with_all_that_is_known() {
    let entries = slice(3);
    assert_eq!(entries.len(), 2, "two of the three hours are above the hold");
    let charges = charges(entries.clone());
    let [charge] = charges.as_slice() else { panic!("{charges:?}") };
    assert_eq!((charge.id.as_str(), charge.ledger_seq), (entries[0].key(), 1));
    assert_eq!((charge.billed_micros, charge.effective_micros), (30_000_000, 30_000_000));
    let it = priced(charge);
    assert_eq!(it.sku_id, "aws/us-east-1/p5.48xlarge/H100x4/spot");
    assert_eq!(it.sku_price_id, "aws/us-east-1/p5.48xlarge/H100x4/spot@10000000-49160000");
    assert_eq!((it.pricing, it.list_unit_micros), (Pricing::Dynamic, 49_160_000));
    assert_eq!((it.quantity, it.unit.as_str()), (crate::Quantity::whole(3), "Hours"));
    assert_eq!(it.consumed, Some((crate::Quantity::whole(12), "GPU-Hours".to_owned())));
    assert_eq!(charge.on_demand_equivalent_micros, Some(3 * 49_160_000));
    assert_eq!(charge.work.as_ref().unwrap().normalised_gpu_ms, 108_000_000);
    let account = &charge.account;
    assert_eq!((account.billing_id.as_str(), account.group_path.as_str()), ("cc-org", "/org/science/vision"));
    assert_eq!(charge.invoice_id, "2026-11-payable-aws-us-east-1-cc-org");
    assert_eq!(charge.resource.as_ref().unwrap().id, "i-0abc");
    assert_eq!(charge.tags["datasets"], "imagenet,web");
    assert_eq!(charge.capacity, None, "a cloud's capacity is bought as it is used");
}

#[test]
fn what_was_priced_in_euros_has_its_prices_and_its_cost_in_both_and_sums_up_in_both() {
    let euros = "EUR".parse().unwrap();
    // 9.213858 EUR at 1.0853 are 9.999800 dollars and a bit: rounded once, to the rate that was charged.
    let rate = HourlyRate(9_999_800);
    let priced_in = Some(PricedIn { currency: euros, rate: HourlyRate(9_213_858) });
    let (mut hold, _) = Hold::place(&subject(), 10_000_000);
    let site = Payee::Site("seoul".parse().unwrap());
    let slice = Slice { rank: 0, from_ms: 0, to_ms: 3 * 3_600_000, rate, gpu_blocks: 400 };
    let of = Usage {
        rate,
        list_rate: rate,
        priced: priced_in,
        cloud: None,
        region: None,
        market: None,
        ..usage(0, 3)
    };
    let entries = hold.charge(&subject(), &site, &slice).into_iter();
    let entries: Vec<Entry> = entries.map(|entry| entry.effective(of.from).using(of.clone())).collect();
    let [charge] = charges(entries.clone()).try_into().unwrap();
    assert_eq!((charge.currency, charge.billed_micros), (Currency::USD, 29_999_400));
    let exchange = charge.exchange.unwrap();
    assert_eq!((exchange.currency, exchange.contracted_unit_micros), (euros, 9_213_858));
    assert_eq!((exchange.list_unit_micros, exchange.effective_micros), (9_213_858, 3 * 9_213_858));
    let back: Vec<Entry> = entries.iter().map(|entry| reversal(entry).unwrap()).collect();
    let half = replacement(&entries[0], entries[0].gpu_ms() / 2, 14_999_700).unwrap();
    let charges = charges(entries.into_iter().chain(back).chain([half]));
    assert_eq!(charges.iter().map(|charge| charge.billed_micros).sum::<i64>(), 14_999_700);
    let in_euros = charges.iter().map(|charge| charge.exchange.unwrap().effective_micros);
    assert_eq!(in_euros.sum::<i64>(), 13_820_787, "an hour and a half");
}

#[test]
fn amendments_point_at_the_slice_and_add_up() {
    let entries = slice(3);
    let back: Vec<Entry> = entries.iter().map(|entry| reversal(entry).unwrap()).collect();
    let half = replacement(&entries[0], entries[0].gpu_ms() / 2, 15_000_000).unwrap();
    let charges = charges(entries.iter().cloned().chain(back).chain([half]));
    let sum: i64 = charges.iter().map(|charge| charge.billed_micros).sum();
    assert_eq!(sum, 15_000_000);
    let [slice, back, overrun, half] = charges.as_slice() else { panic!("{charges:?}") };
    for amendment in [back, overrun] {
        assert_eq!(amendment.reverses.as_ref(), Some(&slice.id), "the overrun is a part of its slice");
    }
    assert_eq!(priced(back).quantity, crate::Quantity::whole(3).negated());
    assert_eq!(overrun.nature, Nature::Adjustment);
    assert_eq!(priced(half).quantity.0, 1_500_000_000_000, "the hours that cost as much");
    let used =
        |charge: &Charge| charge.work.as_ref().map(|work| (work.gpu_ms, work.normalised_gpu_ms)).unwrap();
    let ((gpu_ms, weighed), halved) = (used(slice), used(half));
    assert_eq!(halved, (gpu_ms / 2, weighed / 2), "half the time weighs half");
    assert_eq!(used(back), (-gpu_ms, -weighed));
}

#[test]
fn what_an_instance_cost_beside_its_slices_counts_from_the_month_on_and_may_be_a_credit() {
    let whole = Usage { blocks: 0, ..usage(-30, 20) };
    let overhead = |micros| overhead_entry(&subject(), &payee(), micros).unwrap().using(whole.clone());
    let charge = charges([overhead(2_500_000)]).remove(0);
    assert_eq!(charge.charge_period, Period::new(UnixMs(NOVEMBER), whole.to).unwrap());
    assert!(!charge.is_correction());
    let it = priced(&charge);
    assert_eq!((it.quantity.0, it.meter.as_str()), (250_000_000_000, "Instance overhead"));
    assert_eq!(it.consumed.as_ref().unwrap().0, crate::Quantity::ZERO);
    let credit = charges([overhead(-7)]).remove(0);
    assert_eq!((credit.nature, credit.billed_micros), (Nature::Credit, -7));
    let never_ran = Usage { from: whole.to, ..whole };
    let gone = overhead_entry(&subject(), &payee(), 1).unwrap().using(never_ran);
    assert_eq!(charges([gone]).remove(0).charge_period.ms(), 1);
}

#[test]
fn bytes_have_the_price_of_their_gigabyte() {
    let price: EgressPrice = "0.09".parse().unwrap();
    let (mut hold, _) = Hold::place(&subject(), 0);
    let bytes = (0, 2_500_000_000);
    let entry = hold.charge_egress(&subject(), &payee(), "0/web/0", price, bytes).unwrap();
    let told = entry.clone().using(Usage { resource: Some("web".to_owned()), ..usage(0, 0) });
    let resource = charges([told]).remove(0).resource.unwrap();
    assert_eq!((resource.kind.as_str(), resource.id.as_str()), ("Dataset", "web"));
    let charge = charges([entry]).remove(0);
    let it = priced(&charge);
    assert_eq!((it.unit.as_str(), it.contracted_unit_micros), ("GB", 90_000));
    assert_eq!((it.quantity.0, charge.billed_micros), (2_500_000_000_000, 225_000));
    assert_eq!(charge.service.category, "Networking");
}

#[test]
fn what_was_written_before_use_was_noted_is_an_adjustment() {
    let (mut hold, placed) = Hold::place(&subject(), 50_000_000);
    let slice = Slice { rank: 0, from_ms: 0, to_ms: 3_600_000, rate: HourlyRate(2_000_000), gpu_blocks: 100 };
    let old = hold.charge(&subject(), &payee(), &slice).remove(0);
    let release = hold.settle(&subject()).unwrap();
    let charges = charges([placed, old, release]);
    let [charge] = charges.as_slice() else { panic!("holds and releases are no charges") };
    assert_eq!((&charge.nature, charge.billed_micros), (&Nature::Adjustment, 2_000_000));
    assert_eq!(
        (charge.account.group_path.as_str(), charge.account.billing_id.as_str()),
        ("/vision", "cc-vision")
    );
    let row = charge.row(Version::V1_2).unwrap();
    let billed = crate::Value::Decimal(Decimal::from_micros(2_000_000));
    assert!(row.cells.contains(&Some(billed)));
}

#[test]
fn a_record_of_another_month_or_without_a_fact_is_refused() {
    let mut journal = Journal::new(Zone::utc());
    slice(1).into_iter().for_each(|entry| post(&mut journal, entry));
    let record = journal.records()[0].clone();
    let mut maker = FromLedger::new(month().next(), Zone::utc(), Currency::USD).unwrap();
    let error = maker.record(&record).unwrap_err().to_string();
    assert_eq!(error, "record 1 is booked into 2026-11, and 2026-12 is exported");
    let torn = Record { body: "{".to_owned(), ..record };
    let mut maker = FromLedger::new(month(), Zone::utc(), Currency::USD).unwrap();
    let error = maker.record(&torn).unwrap_err();
    assert!(error.to_string().contains("spillway ledger verify"), "{error}");
}
