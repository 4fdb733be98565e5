//! What a month's files are: complete, exact, the same twice, and without a finding.

use std::collections::BTreeMap;

use spillway_focus::charge::Nature;
use spillway_focus::{Charge, Decimal, ExportError, Exporter, Manifest, Version, check_csv, check_parquet};

use crate::charges::{month, scope};

pub(crate) const SEED: u64 = 2026;

pub(crate) struct Files {
    pub(crate) csv: Vec<u8>,
    pub(crate) parquet: Vec<u8>,
    pub(crate) manifest: Manifest,
}

pub(crate) fn write(version: Version, charges: &[Charge]) -> Files {
    let (mut csv, mut parquet) = (Vec::new(), Vec::new());
    let mut exporter = Exporter::new(scope(version), "october.csv", &mut csv).expect("memory");
    exporter = exporter.with_parquet("october.parquet", &mut parquet).expect("memory");
    for charge in charges {
        exporter.push(charge).expect("a good charge");
    }
    let manifest = exporter.finish().expect("memory");
    Files { csv, parquet, manifest }
}

#[test]
fn a_good_export_has_no_finding() {
    for version in Version::ALL {
        let files = write(version, &month(SEED));
        assert!(files.manifest.rows > 250, "{} rows", files.manifest.rows);
        let report = check_csv(files.csv.as_slice(), None, Some(&files.manifest)).expect("readable");
        assert_eq!(report.findings, [], "CSV {version}");
        assert_eq!((report.version, report.rows), (version, files.manifest.rows));
        let parquet = bytes::Bytes::from(files.parquet);
        let report = check_parquet(parquet, None, Some(&files.manifest)).expect("readable");
        assert_eq!(report.findings, [], "Parquet {version}");
        assert_eq!((report.version, report.rows), (version, files.manifest.rows));
    }
}

#[test]
fn other_seeds_are_good_too() {
    for seed in 1..20 {
        let files = write(Version::V1_3, &month(seed));
        let report = check_csv(files.csv.as_slice(), None, Some(&files.manifest)).expect("readable");
        assert_eq!(report.findings, [], "seed {seed}");
    }
}

#[test]
fn the_same_charges_make_the_same_bytes() {
    for version in Version::ALL {
        let (one, two) = (write(version, &month(SEED)), write(version, &month(SEED)));
        assert_eq!((one.csv, one.parquet, &one.manifest), (two.csv, two.parquet, &two.manifest));
        let text = serde_json::to_string(&one.manifest).expect("JSON");
        assert_eq!(serde_json::from_str::<Manifest>(&text).expect("read back"), one.manifest);
    }
}

#[test]
fn the_manifest_adds_up_what_the_ledger_posted() {
    let charges = month(SEED);
    let manifest = write(Version::V1_2, &charges).manifest;
    let mut invoices: BTreeMap<&str, i64> = BTreeMap::new();
    for charge in &charges {
        *invoices.entry(&charge.invoice_id).or_default() += charge.billed_micros;
    }
    let billed: i64 = invoices.values().sum();
    assert_eq!(manifest.sums["BilledCost"], Decimal::from_micros(billed).to_string());
    assert_eq!(manifest.invoices.len(), invoices.len());
    for (invoice, micros) in invoices {
        assert_eq!(manifest.invoices[invoice].billed_cost, Decimal::from_micros(micros).to_string());
    }
    // What is contracted and what was posted differ by the ledger's rounding only: less than a micro for each slice.
    let exact = |charge: &Charge| match &charge.nature {
        Nature::Usage(priced) if charge.commitment.is_none() => {
            Some(i128::from(priced.contracted_unit_micros) * priced.quantity.0)
        }
        Nature::Usage(_) | Nature::Purchase(..) | Nature::Credit | Nature::Adjustment | Nature::Tax => None,
    };
    for charge in &charges {
        if let Some(atto) = exact(charge) {
            let posted = i128::from(charge.billed_micros) * 10_i128.pow(12);
            assert!((atto - posted).abs() <= 10_i128.pow(12), "{}: {atto} and {posted}", charge.id);
        }
    }
}

#[test]
fn a_reversal_and_its_original_are_nothing() {
    let original = &month(SEED)[0];
    let into = spillway_focus::Reversal {
        id: "r".to_owned(),
        ledger_seq: 9,
        billing_period: original.billing_period,
        invoice_id: "i".to_owned(),
    };
    let twice = original.reversed(into.clone()).reversed(into);
    assert_eq!((twice.billed_micros, &twice.nature), (original.billed_micros, &original.nature));
    assert_eq!(twice.work, original.work);
    assert_eq!(twice.reverses.as_deref(), Some("r"));
}

#[test]
fn charges_that_cannot_be_rows_are_refused_by_name() {
    let good = month(SEED)[0].clone();
    let broken = |change: fn(&mut Charge)| {
        let mut charge = good.clone();
        change(&mut charge);
        let mut exporter = Exporter::new(scope(Version::V1_2), "x.csv", Vec::new()).expect("memory");
        exporter.push(&charge).expect_err("refused").to_string()
    };
    let priced = |charge: &mut Charge, change: fn(&mut spillway_focus::charge::Priced)| {
        if let Nature::Usage(priced) = &mut charge.nature {
            change(priced);
        }
    };
    let cases = [
        (
            broken(|charge| charge.account.billing_id = "4711".to_owned()),
            "put a letter before it, such as `a4711`",
        ),
        (broken(|charge| charge.invoice_id = " ".to_owned()), "InvoiceId is empty"),
        (broken(|charge| charge.currency = spillway_types::Currency::USD), "another currency"),
        (
            broken(|charge| charge.service.subcategory = "Search"),
            "`Search` is no service subcategory of `Compute`",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected) && error.contains("chg-101-0"), "{error}");
    }
    let mut negative = good.clone();
    priced(&mut negative, |priced| priced.list_unit_micros = -1);
    assert!(negative.row(Version::V1_2).unwrap_err().to_string().contains("-1 micros is below 0"));
    let mut unit = good.clone();
    priced(&mut unit, |priced| priced.unit = "hours".to_owned());
    assert!(unit.row(Version::V1_2).unwrap_err().to_string().contains("`hours` is no unit"));
    let mut large = good;
    priced(&mut large, |priced| priced.quantity = spillway_focus::Quantity(i128::MAX));
    assert!(large.row(Version::V1_2).unwrap_err().to_string().contains("more than 20 digits"));
}

#[test]
fn charges_come_in_the_order_of_the_ledger() {
    let charges = month(SEED);
    let mut exporter = Exporter::new(scope(Version::V1_2), "x.csv", Vec::new()).expect("memory");
    exporter.push(&charges[5]).expect("the first");
    let error = exporter.push(&charges[0]).expect_err("an earlier one");
    assert!(matches!(error, ExportError::OutOfOrder { .. }), "{error}");
}
