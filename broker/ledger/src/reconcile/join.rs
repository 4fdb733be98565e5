//! Joins a bill and our charges on resource x time.
//!
//! Of each resource, lines and charges whose times overlap belong together, with all that overlaps those: a bill by
//! the hour meets a run of three. The difference of such a pair is split as cost accountants do: the difference in
//! time at our price is the usage variance, the rest is the price's. Both together are the difference, exactly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{CloudName, SiteName, UnixMs};

use super::bill::BillLine;
use super::decimal::Decimal;
use crate::calendar::Period;
use crate::journal::{Statement, StatementKind};
use crate::rates::div_round;
use crate::{Account, Posting};

/// What was charged for one resource and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurCharge {
    /// The provider's id of the resource.
    pub resource: String,
    /// Begin.
    pub from: UnixMs,
    /// End, exclusive.
    pub to: UnixMs,
    /// The time that is billed, in milliseconds, after minimum and increment.
    pub billed_ms: u64,
    /// What it cost, in micros of the bill's currency.
    pub micros: i64,
}

/// What came of comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same, within the tolerance.
    Matched,
    /// The same time at another price.
    Price,
    /// Another time; the price may differ as well.
    Usage,
    /// They bill it, and nothing of ours knows it: a stray instance, or somebody else's.
    Orphan,
    /// We charged it, and they do not bill it: it may come on a later bill.
    Missing,
}

/// One pair, or one side of it. Amounts in micros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The provider's id of the resource; empty for lines that have none.
    pub resource: String,
    /// Begin of the earliest.
    pub from: UnixMs,
    /// End of the latest.
    pub to: UnixMs,
    /// What came of it.
    pub verdict: Verdict,
    /// What the bill says.
    pub theirs_micros: i64,
    /// What was charged.
    pub ours_micros: i64,
    /// Of the difference, what comes from another price.
    pub price_micros: i64,
    /// Of the difference, what comes from another time.
    pub usage_micros: i64,
    /// The lines of the bill.
    pub lines: Vec<u64>,
}

impl Finding {
    /// By how much the bill is higher.
    #[must_use]
    pub const fn difference_micros(&self) -> i64 {
        self.theirs_micros.saturating_sub(self.ours_micros)
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// By resource and time.
    pub findings: Vec<Finding>,
}

impl Reconciliation {
    /// What the bill says in all, in micros.
    #[must_use]
    pub fn theirs_micros(&self) -> i64 {
        self.findings.iter().fold(0, |sum, it| sum.saturating_add(it.theirs_micros))
    }

    /// What was charged in all, in micros.
    #[must_use]
    pub fn ours_micros(&self) -> i64 {
        self.findings.iter().fold(0, |sum, it| sum.saturating_add(it.ours_micros))
    }

    /// How many findings of each verdict, and by how much the bill is higher in them, in micros.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Verdict, (usize, i64)> {
        let mut totals: BTreeMap<Verdict, (usize, i64)> = BTreeMap::new();
        for it in &self.findings {
            let total = totals.entry(it.verdict).or_default();
            *total = (total.0 + 1, total.1.saturating_add(it.difference_micros()));
        }
        totals
    }

    /// The statement that brings what is owed to the provider for the period to what it bills: the difference, to the
    /// variance of its site. `None` where there is none. `name` tells one reconciliation of a period from another.
    #[must_use]
    pub fn statement(
        &self,
        cloud: &CloudName,
        site: &SiteName,
        period: Period,
        name: &str,
    ) -> Option<Statement> {
        let micros = self.theirs_micros().checked_sub(self.ours_micros())?;
        if micros == 0 || micros == i64::MIN {
            return None;
        }
        let payable = Account::Payable { cloud: cloud.clone(), site: site.clone() };
        let postings = vec![
            Posting { account: Account::Variance(site.clone()), micros },
            Posting { account: payable, micros: -micros },
        ];
        let key = format!("reconciliation/{cloud}/{site}/{period}/{name}");
        Statement::new(key, StatementKind::Reconciliation, (site.clone(), None), period, postings).ok()
    }
}

/// What belongs together of one resource.
#[derive(Default)]
struct Cluster<'a> {
    span: Option<(UnixMs, UnixMs)>,
    theirs: Vec<&'a BillLine>,
    ours: Vec<&'a OurCharge>,
}

enum Side<'a> {
    Theirs(&'a BillLine),
    Ours(&'a OurCharge),
}

impl Side<'_> {
    const fn span(&self) -> (UnixMs, UnixMs) {
        match self {
            Self::Theirs(it) => (it.from, it.to),
            Self::Ours(it) => (it.from, it.to),
        }
    }
}

/// Compares a bill with what was charged. A pair that differs by at most `tolerance_micros` is matched.
#[must_use]
pub fn reconcile(lines: &[BillLine], charges: &[OurCharge], tolerance_micros: u64) -> Reconciliation {
    let mut by_resource: BTreeMap<&str, Vec<Side<'_>>> = BTreeMap::new();
    for line in lines {
        by_resource.entry(&line.resource).or_default().push(Side::Theirs(line));
    }
    for charge in charges {
        by_resource.entry(&charge.resource).or_default().push(Side::Ours(charge));
    }
    let mut findings = vec![];
    for (resource, mut sides) in by_resource {
        sides.sort_by_key(Side::span);
        let mut cluster = Cluster::default();
        for side in sides {
            let (from, to) = side.span();
            // Half-open: what begins where another ends does not overlap it, save an instant of no length.
            if cluster.span.is_some_and(|(begin, end)| from >= end && from > begin) {
                findings.push(std::mem::take(&mut cluster).finding(resource, tolerance_micros));
            }
            let (begin, end) = cluster.span.unwrap_or((from, to));
            cluster.span = Some((begin, end.max(to)));
            match side {
                Side::Theirs(line) => cluster.theirs.push(line),
                Side::Ours(charge) => cluster.ours.push(charge),
            }
        }
        if cluster.span.is_some() {
            findings.push(cluster.finding(resource, tolerance_micros));
        }
    }
    Reconciliation { findings }
}

impl Cluster<'_> {
    fn finding(self, resource: &str, tolerance_micros: u64) -> Finding {
        let (from, to) = self.span.unwrap_or_default();
        let cost = self.theirs.iter().try_fold(Decimal::default(), |sum, line| sum.checked_add(line.cost));
        let theirs_micros = cost.and_then(Decimal::to_micros).unwrap_or(i64::MAX);
        let ours_micros = self.ours.iter().fold(0, |sum: i64, it| sum.saturating_add(it.micros));
        let difference = theirs_micros.saturating_sub(ours_micros);
        let their_ms: Option<u64> =
            self.theirs.iter().map(|line| line.billed_ms).try_fold(0, |sum: u64, ms| sum.checked_add(ms?));
        let our_ms = self.ours.iter().fold(0, |sum: u64, it| sum.saturating_add(it.billed_ms));
        let usage_micros = match their_ms.filter(|_| our_ms > 0) {
            Some(their_ms) => {
                let more = i128::from(their_ms) - i128::from(our_ms);
                let usage = div_round(i128::from(ours_micros) * more, i128::from(our_ms));
                i64::try_from(usage).unwrap_or(difference)
            }
            None => 0,
        };
        let verdict = match (self.theirs.is_empty(), self.ours.is_empty()) {
            (true, _) => Verdict::Missing,
            (_, true) => Verdict::Orphan,
            (false, false) if difference.unsigned_abs() <= tolerance_micros => Verdict::Matched,
            (false, false) if usage_micros.unsigned_abs() > tolerance_micros => Verdict::Usage,
            (false, false) => Verdict::Price,
        };
        let usage_micros =
            if matches!(verdict, Verdict::Orphan | Verdict::Missing) { difference } else { usage_micros };
        let lines = self.theirs.iter().map(|line| line.line).collect();
        let price_micros = difference.saturating_sub(usage_micros);
        let resource = resource.to_owned();
        Finding { resource, from, to, verdict, theirs_micros, ours_micros, price_micros, usage_micros, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spillway_types::Currency;

    const HOUR: u64 = 3_600_000;

    fn line(number: u64, resource: &str, from_h: i64, to_h: i64, cost: &str) -> BillLine {
        let instant = |hours: i64| UnixMs(hours * 3_600_000);
        BillLine {
            line: number,
            resource: resource.to_owned(),
            from: instant(from_h),
            to: instant(to_h),
            cost: cost.parse().unwrap(),
            currency: Currency::USD,
            billed_ms: Some(u64::try_from(to_h - from_h).unwrap() * HOUR),
            invoice: "INV-7".to_owned(),
        }
    }

    fn ours(resource: &str, from_h: i64, to_h: i64, micros: i64) -> OurCharge {
        let billed_ms = u64::try_from(to_h - from_h).unwrap() * HOUR;
        let instant = |hours: i64| UnixMs(hours * 3_600_000);
        OurCharge {
            resource: resource.to_owned(),
            from: instant(from_h),
            to: instant(to_h),
            billed_ms,
            micros,
        }
    }

    fn told(it: &Finding) -> (&str, Verdict, i64, i64) {
        (&it.resource, it.verdict, it.price_micros, it.usage_micros)
    }

    #[test]
    fn each_verdict_has_its_figures() {
        let bill = [
            line(2, "i-same", 0, 1, "2.00"),
            line(3, "i-same", 1, 2, "2.00"),
            line(4, "i-dear", 0, 2, "5.00"),
            line(5, "i-long", 0, 3, "6.00"),
            line(6, "i-both", 0, 3, "9.00"),
            line(7, "i-stray", 0, 4, "8.00"),
            line(8, "", 0, 744, "10.00"),
        ];
        let charges = ["i-both", "i-dear", "i-gone", "i-long", "i-same"]
            .map(|resource| ours(resource, 0, 2, 4_000_000));
        let found = reconcile(&bill, &charges, 0);
        let expected = [
            ("", Verdict::Orphan, 0, 10_000_000),
            ("i-both", Verdict::Usage, 3_000_000, 2_000_000),
            ("i-dear", Verdict::Price, 1_000_000, 0),
            ("i-gone", Verdict::Missing, 0, -4_000_000),
            ("i-long", Verdict::Usage, 0, 2_000_000),
            ("i-same", Verdict::Matched, 0, 0),
            ("i-stray", Verdict::Orphan, 0, 8_000_000),
        ];
        assert_eq!(found.findings.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(found.findings[5].lines, [2, 3], "two hours meet one run");
        assert_eq!((found.theirs_micros(), found.ours_micros()), (42_000_000, 20_000_000));
        assert_eq!(found.totals()[&Verdict::Usage], (2, 7_000_000));
        let statement = found.statement(
            &"aws".parse().unwrap(),
            &"us-east-1".parse().unwrap(),
            "2026-03".parse().unwrap(),
            "1",
        );
        assert_eq!(crate::journal::Fact::Statement(statement.unwrap()).postings()[0].micros, 22_000_000);
    }

    #[test]
    fn a_tolerance_binds_at_its_edge_and_runs_apart_are_apart() {
        let verdict = |cost, tolerance| {
            reconcile(&[line(2, "i", 0, 1, cost)], &[ours("i", 0, 1, 2_000_000)], tolerance).findings[0]
                .verdict
        };
        assert_eq!(verdict("2.01", 10_000), Verdict::Matched);
        assert_eq!(verdict("2.010001", 10_000), Verdict::Price);
        assert_eq!(verdict("1.989999", 10_000), Verdict::Price);
        let apart =
            reconcile(&[line(2, "i", 0, 1, "1"), line(3, "i", 2, 3, "1")], &[ours("i", 2, 3, 1_000_000)], 0);
        assert_eq!(
            apart.findings.iter().map(|it| it.verdict).collect::<Vec<_>>(),
            [Verdict::Orphan, Verdict::Matched]
        );
        assert_eq!(reconcile(&[], &[], 0).findings, []);
    }

    fn cases() -> impl Strategy<Value = (Vec<BillLine>, Vec<OurCharge>)> {
        let name = || prop::sample::select(vec!["i-1", "i-2", "i-3"]);
        let theirs = (name(), 0_i64..50, 0_i64..10, 0_i64..100_000_000);
        let theirs = theirs.prop_map(|(resource, from, hours, micros)| BillLine {
            cost: Decimal::from_micros(micros),
            ..line(1, resource, from, from + hours, "0")
        });
        let charge = (name(), 0_i64..50, 0_i64..10, 0_i64..100_000_000)
            .prop_map(|(resource, from, hours, micros)| ours(resource, from, from + hours, micros));
        (proptest::collection::vec(theirs, 0..12), proptest::collection::vec(charge, 0..12))
    }

    proptest! {
        /// Invariant 12: after its statement is posted, what is owed is the invoice.
        #[test]
        fn what_is_owed_is_the_invoice_after_reconciliation((bill, charges) in cases()) {
            let found = reconcile(&bill, &charges, 0);
            let invoice: i64 = bill.iter().map(|line| line.cost.to_micros().unwrap()).sum();
            let charged: i64 = charges.iter().map(|it| it.micros).sum();
            prop_assert_eq!((found.theirs_micros(), found.ours_micros()), (invoice, charged), "nothing is lost or counted twice");
            let statement = found.statement(&"aws".parse().unwrap(), &"us-east-1".parse().unwrap(), "2026-03".parse().unwrap(), "1");
            let owed = statement.map_or(0, |it| -crate::journal::Fact::Statement(it).postings()[1].micros);
            prop_assert_eq!(charged + owed, invoice);
            for it in &found.findings {
                prop_assert_eq!(it.price_micros + it.usage_micros, it.difference_micros());
            }
        }

        #[test]
        fn the_order_of_lines_does_not_matter((mut bill, mut charges) in cases()) {
            let mut before = reconcile(&bill, &charges, 0);
            bill.reverse();
            charges.reverse();
            let mut after = reconcile(&bill, &charges, 0);
            before.findings.iter_mut().chain(&mut after.findings).for_each(|it| it.lines.sort_unstable());
            prop_assert_eq!(before, after);
        }
    }
}
