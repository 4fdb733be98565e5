//! Each kind of defect, planted in a good export, is found by its rule, in its row and column, and nothing else is.

use std::sync::OnceLock;

use spillway_focus::check::MAX_FINDINGS_PER_RULE;
use spillway_focus::{CheckError, Finding, Manifest, Rule, Version, check_csv};

use crate::charges::month;
use crate::export::{SEED, write};

/// A good export as a table that can be broken.
#[derive(Clone)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    manifest: Manifest,
}

impl Table {
    fn good(version: Version) -> Self {
        static MADE: [OnceLock<Table>; 2] = [OnceLock::new(), OnceLock::new()];
        MADE[usize::from(version == Version::V1_3)].get_or_init(|| Self::make(version)).clone()
    }

    fn make(version: Version) -> Self {
        let files = write(version, &month(SEED));
        let mut reader = csv::Reader::from_reader(files.csv.as_slice());
        let header = reader.headers().expect("a header").iter().map(str::to_owned).collect();
        let rows = reader.records().map(|record| record.expect("a row").iter().map(str::to_owned).collect());
        Self { header, rows: rows.collect(), manifest: files.manifest }
    }

    fn place(&self, column: &str) -> usize {
        self.header.iter().position(|name| name == column).expect("a column")
    }

    fn get(&self, row: usize, column: &str) -> &str {
        &self.rows[row][self.place(column)]
    }

    fn set(&mut self, row: usize, column: &str, value: &str) {
        let place = self.place(column);
        self.rows[row][place] = value.to_owned();
    }

    /// The first row where all of these hold; not one of the very first, which others are compared with.
    fn find(&self, conditions: &[(&str, &str)]) -> usize {
        let holds = |row: &usize| conditions.iter().all(|(column, value)| self.get(*row, column) == *value);
        (20..self.rows.len()).find(holds).expect("the month has such a row")
    }

    fn csv(&self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        writer.write_record(&self.header).expect("memory");
        for row in &self.rows {
            writer.write_record(row).expect("memory");
        }
        writer.into_inner().expect("memory")
    }

    fn findings(&self) -> Vec<Finding> {
        check_csv(self.csv().as_slice(), Some(Version::V1_2), None).expect("readable").findings
    }
}

/// A charge of plain use that no other row is about.
const PLAIN: [(&str, &str); 3] =
    [("ChargeCategory", "Usage"), ("PricingCategory", "Standard"), ("RegionId", "eu-central-1")];

/// Sets one value in a plain row and expects one finding about it.
#[track_caller]
fn planted(column: &str, value: &str, rule: Rule, message: &str) {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&PLAIN);
    table.set(row, column, value);
    found(&table, row, column, rule, message);
}

#[track_caller]
fn found(table: &Table, row: usize, column: &str, rule: Rule, message: &str) {
    let findings = table.findings();
    let [finding] = findings.as_slice() else {
        panic!("{} findings: {:#?}", findings.len(), findings.first())
    };
    let place = (finding.row, finding.column.as_deref(), finding.rule);
    assert_eq!(place, (Some(row as u64 + 1), Some(column).filter(|name| !name.is_empty()), rule));
    assert!(finding.message.contains(message), "`{}` does not say `{message}`", finding.message);
    assert_eq!(
        finding.value.as_deref().unwrap_or_default(),
        if column.is_empty() { "" } else { table.get(row, column) }
    );
}

#[test]
fn a_mandatory_value_that_is_missing() {
    for column in ["BilledCost", "BillingAccountId", "ServiceName", "ChargePeriodStart", "ProviderName"] {
        planted(column, "", Rule::MissingValue, "every row needs one");
    }
    planted("PricingCategory", "", Rule::MissingValue, "a charge of category Usage needs one");
    planted("ServiceName", "  ", Rule::MissingValue, "only blanks");
}

#[test]
fn a_negative_value() {
    planted("BilledCost", "-1", Rule::Negative, "only corrections, reversals, credits and adjustments");
    planted("ConsumedQuantity", "-0.5", Rule::Negative, "only corrections");
}

#[test]
fn a_list_cost_that_is_not_price_times_quantity() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&PLAIN);
    // One digit off, in the last place that is printed.
    let (most, last) = table.get(row, "ListCost").split_at(table.get(row, "ListCost").len() - 1);
    let near = format!("{most}{}", if last == "1" { "2" } else { "1" });
    table.set(row, "ListCost", &near);
    found(&table, row, "ListCost", Rule::ListCost, "x PricingQuantity");
    planted("ContractedCost", "1", Rule::ContractedCost, "ContractedUnitPrice");
}

#[test]
fn an_end_before_its_start() {
    planted(
        "ChargePeriodEnd",
        "2026-10-01T00:00:00Z",
        Rule::PeriodOrder,
        "it must be after ChargePeriodStart",
    );
}

#[test]
fn an_offset_that_is_not_utc() {
    planted("ChargePeriodStart", "2026-10-05T12:00:00+02:00", Rule::NotUtc, "it is not in UTC");
    planted("ChargePeriodStart", "2026-10-05T12:00:00", Rule::NotUtc, "it is not in UTC");
    planted("ChargePeriodStart", "05.10.2026", Rule::Malformed, "of the form");
}

#[test]
fn a_pricing_category_that_is_called_spot() {
    planted("PricingCategory", "Spot", Rule::NotAllowed, "spot prices are `Dynamic`");
    planted("ServiceSubcategory", "Search", Rule::Subcategory, "no subcategory of `Compute`");
}

#[test]
fn a_number_with_an_exponent() {
    planted("EffectiveCost", "1.2e3", Rule::Exponent, "with an exponent");
    planted("PricingCurrencyEffectiveCost", "1E-7", Rule::Exponent, "with an exponent");
    planted("x_GpuMs", "1.5", Rule::Precision, "more than 0 decimals");
}

#[test]
fn a_unit_that_is_none() {
    planted("PricingUnit", "hours", Rule::Unit, "write `Hours`");
    planted("ConsumedUnit", "GPU hours", Rule::Unit, "write `Hours`");
}

#[test]
fn a_price_of_two_skus() {
    let mut table = Table::good(Version::V1_2);
    let first = table.find(&PLAIN);
    let price = table.get(first, "SkuPriceId").to_owned();
    let second = (first + 1..table.rows.len()).find(|row| table.get(*row, "SkuPriceId") == price);
    let second = second.expect("a price that is used twice");
    table.set(second, "SkuId", "other");
    let findings = table.findings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].rule, findings[0].row), (Rule::SkuPrice, Some(second as u64 + 1)));
    assert!(findings[0].message.contains("here to `other`"), "{}", findings[0].message);
}

#[test]
fn something_billed_for_a_free_credit() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&[("ChargeDescription", "A free hour of spot")]);
    table.set(row, "BilledCost", "3.5");
    found(&table, row, "BilledCost", Rule::FreeCharge, "a credit's BilledCost is its ContractedCost, 0");
    for column in ["ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost"] {
        table.set(row, column, "3.5");
    }
    found(&table, row, "BilledCost", Rule::FreeCharge, "a credit is never billed");
}

#[test]
fn free_usage_that_is_billed() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&PLAIN);
    for column in ["ContractedCost", "ContractedUnitPrice", "PricingCurrencyContractedUnitPrice"] {
        table.set(row, column, "0");
    }
    found(&table, row, "BilledCost", Rule::FreeCharge, "the usage is free");
}

#[test]
fn a_correction_without_its_class() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&[("x_ChargeId", "again-september")]);
    table.set(row, "ChargeClass", "");
    let findings = table.findings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].rule, findings[0].row), (Rule::CorrectionClass, Some(row as u64 + 1)));
    assert!(findings[0].message.contains("is a `Correction`"), "{}", findings[0].message);
    planted("ChargeClass", "Correction", Rule::CorrectionClass, "within its own billing period has no class");
}

#[test]
fn slices_of_one_resource_that_overlap() {
    let mut table = Table::good(Version::V1_2);
    let attempt = |row: usize| table.get(row, "x_AttemptId");
    let first =
        (0..table.rows.len() - 1).find(|row| !attempt(*row).is_empty() && attempt(*row) == attempt(row + 1));
    let first = first.expect("an attempt of several days");
    let next = first + 1;
    let start = table.get(first, "ChargePeriodStart").to_owned();
    table.set(next, "ChargePeriodStart", &start);
    let findings = table.findings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].rule, findings[0].row), (Rule::Overlap, Some(next as u64 + 1)));
    assert!(findings[0].message.contains("is charged already"), "{}", findings[0].message);
}

#[test]
fn an_invoice_id_that_is_missing() {
    planted("InvoiceId", "", Rule::MissingValue, "every row needs one");
}

#[test]
fn an_invoice_of_two_accounts() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&PLAIN);
    table.set(row, "BillingAccountId", "cc-4712");
    found(&table, row, "InvoiceId", Rule::Invoice, "the invoice bills `cc-4711`");
}

#[test]
fn a_currency_that_is_wrong() {
    planted("PricingCurrency", "EURO", Rule::Currency, "no code of ISO 4217");
    planted("BillingCurrency", "USD", Rule::Currency, "one file has one currency");
    planted("PricingCurrencyListUnitPrice", "1", Rule::Exchange, "the currency is the same");
}

#[test]
fn an_account_that_has_only_digits() {
    planted("BillingAccountId", "4711", Rule::AllDigits, "write `a4711`");
    planted("SubAccountId", "0815", Rule::AllDigits, "write `a0815`");
}

#[test]
fn a_column_that_nobody_knows() {
    for (name, message) in [
        ("Cluster", "begin with `x_`"),
        ("HostProviderName", "a later version does"),
        ("billedcost", "spelt `BilledCost`"),
    ] {
        let mut table = Table::good(Version::V1_2);
        table.header.push(name.to_owned());
        table.rows.iter_mut().for_each(|row| row.push(String::new()));
        let findings = table.findings();
        assert_eq!((findings.len(), findings[0].rule), (1, Rule::UnknownColumn), "{findings:#?}");
        assert!(findings[0].message.contains(message), "{}", findings[0].message);
    }
    let mut table = Table::good(Version::V1_2);
    table.header.push("x_Cluster".to_owned());
    table.rows.iter_mut().for_each(|row| row.push("c1".to_owned()));
    assert_eq!(table.findings(), []);
}

#[test]
fn a_column_that_is_missing_or_there_twice() {
    for version in Version::ALL {
        for column in version.columns().filter(|column| column.mandatory || column.name == "InvoiceId") {
            let mut table = Table::good(version);
            let place = table.place(column.name);
            table.header.remove(place);
            table.rows.iter_mut().for_each(|row| drop(row.remove(place)));
            let report = check_csv(table.csv().as_slice(), Some(version), None).expect("readable");
            let missing = report.findings.iter().filter(|finding| finding.rule == Rule::MissingColumn);
            let names: Vec<_> = missing.map(|finding| finding.column.as_deref()).collect();
            assert_eq!(names, [Some(column.name)]);
        }
    }
    let mut table = Table::good(Version::V1_2);
    table.header.push("x_GpuMs".to_owned());
    table.rows.iter_mut().for_each(|row| row.push("1".to_owned()));
    let findings = table.findings();
    assert_eq!((findings.len(), findings[0].rule), (1, Rule::DuplicateColumn), "{findings:#?}");
}

#[test]
fn columns_in_the_wrong_order() {
    let mut table = Table::good(Version::V1_2);
    let place = table.place("Tags");
    for row in std::iter::once(&mut table.header).chain(&mut table.rows) {
        let tags = row.remove(place);
        row.push(tags);
    }
    let findings = table.findings();
    assert_eq!((findings.len(), findings[0].rule), (1, Rule::ColumnOrder), "{findings:#?}");
    assert!(findings[0].message.contains("after `x_AttemptId`"), "{}", findings[0].message);
}

#[test]
fn a_row_that_is_there_twice() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&[("ChargeCategory", "Credit")]);
    table.rows.push(table.rows[row].clone());
    let last = table.rows.len() - 1;
    found(&table, last, "", Rule::DuplicateRow, "there twice");
}

#[test]
fn totals_that_do_not_match_the_manifest() {
    let mut table = Table::good(Version::V1_2);
    let row = table.find(&PLAIN);
    table.set(row, "BilledCost", "1000000");
    let report = check_csv(table.csv().as_slice(), None, Some(&table.manifest)).expect("readable");
    assert!(report.findings.iter().all(|finding| finding.rule == Rule::Manifest), "{:#?}", report.findings);
    let messages: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    for part in ["the sum of BilledCost", "the total of invoice prov-2026-10-eu-central-1", "SHA-256"] {
        assert_eq!(messages.iter().filter(|message| message.contains(part)).count(), 1, "{messages:#?}");
    }
    assert_eq!(messages.len(), 3, "{messages:#?}");
    let mut table = Table::good(Version::V1_2);
    table.rows.pop();
    let report = check_csv(table.csv().as_slice(), None, Some(&table.manifest)).expect("readable");
    assert!(report.findings.iter().any(|finding| finding.message.contains("the number of rows")));
    let mut manifest = table.manifest.clone();
    (manifest.currency, manifest.period_start) = ("USD".to_owned(), "2026-09-01T00:00:00Z".to_owned());
    manifest.invoices.clear();
    let report = check_csv(table.csv().as_slice(), None, Some(&manifest)).expect("readable");
    for part in ["the currency is USD", "the period's start", "does not have this invoice"] {
        assert!(report.findings.iter().any(|finding| finding.message.contains(part)), "{part}");
    }
}

#[test]
fn values_that_do_not_belong_together() {
    planted("RegionName", "", Rule::MissingValue, "one in RegionId");
    planted("Tags", "project=x", Rule::Malformed, "no JSON object");
    planted("Tags", r#"{"a":1,"a":2}"#, Rule::Malformed, "the key `a` is there twice");
    planted("Tags", r#"{"a":{"b":1}}"#, Rule::Malformed, "only plain values");
    planted("BillingPeriodEnd", "2026-12-01T00:00:00Z", Rule::BillingPeriod, "one file has one period");
    planted("CapacityReservationStatus", "Used", Rule::UnexpectedValue, "none in CapacityReservationId");
    planted("PricingQuantity", "1.0000000000001", Rule::Precision, "more than 12 decimals");
}

#[test]
fn a_file_that_was_cut_off_is_an_error_that_says_so() {
    let csv = Table::good(Version::V1_2).csv();
    let check = |bytes: &[u8]| check_csv(bytes, None, None);
    for missing in [1, 2, 40, 700] {
        let cut = &csv[..csv.len() - missing];
        let error = check(cut).expect_err("torn");
        assert!(matches!(error, CheckError::Torn { .. }), "{missing} bytes: {error}");
        assert!(error.to_string().contains("it was cut off"), "{error}");
    }
    let mut open_quote = csv;
    open_quote.extend_from_slice(b"\"never closed,1,2\n");
    assert!(matches!(check(&open_quote), Err(CheckError::Torn { .. })));
    assert!(matches!(check(b""), Err(CheckError::Empty)));
    assert!(matches!(check(b"\xff\xfe,x\n"), Err(CheckError::Csv(_))));
}

#[test]
fn a_row_with_another_number_of_fields() {
    let mut table = Table::good(Version::V1_2);
    table.rows[3].push("more".to_owned());
    let findings = table.findings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].rule, findings[0].row), (Rule::FieldCount, Some(4)));
}

#[test]
fn what_is_wrong_everywhere_is_counted_and_not_repeated() {
    let mut table = Table::good(Version::V1_2);
    let place = table.place("ProviderName");
    let row = table.rows[table.find(&PLAIN)].clone();
    let wanted = usize::try_from(MAX_FINDINGS_PER_RULE).expect("small") + 7;
    table.rows = (0..wanted)
        .map(|number| {
            let mut row = row.clone();
            row[place].clear();
            row[table.place("x_AttemptId")] = format!("att_{number}");
            row
        })
        .collect();
    let report = check_csv(table.csv().as_slice(), None, None).expect("readable");
    assert_eq!(report.findings.len() as u64, MAX_FINDINGS_PER_RULE);
    assert_eq!(report.left_off.get(&Rule::MissingValue), Some(&7));
}

#[test]
fn the_old_names_stay_in_1_3_and_the_new_ones_are_needed() {
    let old = Table::good(Version::V1_2);
    let report = check_csv(old.csv().as_slice(), Some(Version::V1_3), None).expect("readable");
    let missing: Vec<_> =
        report.findings.iter().map(|finding| (finding.rule, finding.column.as_deref())).collect();
    assert_eq!(
        missing,
        [(Rule::MissingColumn, Some("HostProviderName")), (Rule::MissingColumn, Some("ServiceProviderName"))]
    );
}

/// Noise in a good file: findings or an error, never a panic, and never silence about what was changed.
#[test]
fn noise_is_never_passed_over() {
    let csv = Table::good(Version::V1_2).csv();
    let manifest = Table::good(Version::V1_2).manifest;
    let mut state = SEED;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % limit
    };
    for round in 0..60 {
        let mut noisy = csv.clone();
        let place = random(noisy.len());
        let byte = [b'"', b',', b'\n', b'-', b'9', b'e', 0, 0xff][random(8)];
        if noisy[place] == byte {
            continue;
        }
        noisy[place] = byte;
        let noticed = match check_csv(noisy.as_slice(), None, Some(&manifest)) {
            Ok(report) => !report.findings.is_empty(),
            Err(_) => true,
        };
        assert!(noticed, "round {round}: byte {byte} at {place}");
    }
}
