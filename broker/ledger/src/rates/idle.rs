//! Who pays for what a cloud instance cost beside the slices that ran on it.
//!
//! The rule, in order:
//! 1. Until something first uses it (boot), the one it was launched for pays.
//! 2. While it is used in part, those that use it pay for the rest, by their shares: nobody else could have it. Where
//!    shares add up to the whole or more (one has the accelerators, another the CPUs), there is no rest.
//! 3. While nothing uses it, the one that used it last pays: it is warm because of them.
//! 4. What is left of its bill (a minimum, an increment, rounding) the one it was launched for pays, or is credited.
//!
//! [`IdleMeter`] keeps account of 2 and 3 as uses begin and end; it holds one line for each group, and one for each
//! use that goes on, however long the instance lives. 1 and 4 are what its owner has left over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{AttemptId, GroupName, HourlyRate, UnixMs};

use crate::Subject;

/// All of an instance, in millionths.
pub const WHOLE_PPM: u32 = 1_000_000;

/// A use that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    subject: Subject,
    share_ppm: u32,
}

/// What of an instance's cost its users have caused beside their slices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdleMeter {
    /// When it was first used: costs are counted from then, so that they telescope.
    began: Option<UnixMs>,
    /// Up to when it is accounted for.
    at: UnixMs,
    running: Vec<Running>,
    last: Option<Subject>,
    owed: BTreeMap<GroupName, (Subject, i64)>,
}

impl IdleMeter {
    /// A use begins that has `share_ppm` millionths of the instance.
    pub fn begin(&mut self, price: HourlyRate, subject: Subject, share_ppm: u32, now: UnixMs) {
        if self.began.is_none() {
            (self.began, self.at) = (Some(now), now);
        }
        self.accrue(price, now);
        self.running.retain(|it| it.subject.attempt != subject.attempt);
        self.running.push(Running { subject, share_ppm });
    }

    /// The use of the attempt ends; one that did not begin changes nothing.
    pub fn end(&mut self, price: HourlyRate, attempt: AttemptId, now: UnixMs) {
        self.accrue(price, now);
        if let Some(place) = self.running.iter().position(|it| it.subject.attempt == attempt) {
            self.last = Some(self.running.remove(place).subject);
        }
    }

    /// What each group has caused by `now`, in micros, with the newest attempt of it.
    #[must_use]
    pub fn owed(&self, price: HourlyRate, now: UnixMs) -> BTreeMap<GroupName, (Subject, i64)> {
        let mut until = self.clone();
        until.accrue(price, now);
        until.owed
    }

    /// Counts what was caused by `now` at the price until then; to be called before the price becomes another.
    pub fn accrue(&mut self, price: HourlyRate, now: UnixMs) {
        let Some(began) = self.began.filter(|_| now > self.at) else { return };
        let cost = price.cost_micros(1, 1, self.at.since(began).0, now.since(began).0);
        self.at = now;
        let used: u64 = self.running.iter().map(|it| u64::from(it.share_ppm)).sum();
        if self.running.is_empty() {
            if let Some(last) = self.last.clone() {
                self.owe(last, cost);
            }
            return;
        }
        let rest =
            i128::from(cost) * i128::from(u64::from(WHOLE_PPM).saturating_sub(used)) / i128::from(WHOLE_PPM);
        // By cumulative shares, so that they sum to the rest.
        let until =
            |ppm: u64| i64::try_from(rest * i128::from(ppm) / i128::from(used.max(1))).unwrap_or(i64::MAX);
        let mut before = 0;
        for it in self.running.clone() {
            let after = before + u64::from(it.share_ppm);
            self.owe(it.subject, until(after) - until(before));
            before = after;
        }
    }

    fn owe(&mut self, subject: Subject, micros: i64) {
        let (newest, sum) = self.owed.entry(subject.group.clone()).or_insert_with(|| (subject.clone(), 0));
        *newest = subject;
        *sum = sum.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::subject;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000;
    const PRICE: HourlyRate = HourlyRate(8_000_000);

    /// Uses as (group, seed, from, to, share); what each group owes at `to`, in thousandths of a unit.
    fn owed(uses: &[(&str, u64, i64, i64, u32)], to: i64) -> Vec<(String, i64)> {
        let mut meter = IdleMeter::default();
        let begins = uses.iter().map(|it| (it.2, 1, it));
        let ends = uses.iter().map(|it| (it.3, 0, it));
        let mut steps: Vec<_> = begins.chain(ends).collect();
        steps.sort_by_key(|(at, begins, it)| (*at, *begins, it.1));
        for (at, begins, (group, seed, _, _, share)) in steps {
            let subject = subject(group, *seed);
            match begins {
                1 => meter.begin(PRICE, subject, *share, UnixMs(at)),
                _ => meter.end(PRICE, subject.attempt, UnixMs(at)),
            }
        }
        let owed = meter.owed(PRICE, UnixMs(to)).into_iter();
        owed.filter(|(_, (_, micros))| *micros != 0)
            .map(|(group, (_, micros))| (group.to_string(), micros))
            .collect()
    }

    fn told(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
        expected.iter().map(|(group, micros)| ((*group).to_owned(), *micros)).collect()
    }

    #[test]
    fn warm_time_is_the_last_users_and_boot_is_nobodys_of_them() {
        let uses = [("ada", 1, HOUR, 2 * HOUR, WHOLE_PPM), ("bob", 2, 3 * HOUR, 4 * HOUR, WHOLE_PPM)];
        assert_eq!(owed(&uses, 6 * HOUR), told(&[("ada", 8_000_000), ("bob", 16_000_000)]));
        assert_eq!(owed(&uses[..1], 2 * HOUR), told(&[]));
        assert_eq!(owed(&[], HOUR), told(&[]));
    }

    #[test]
    fn an_unused_share_is_paid_by_those_who_use_the_rest() {
        let uses = [("ada", 1, 0, HOUR, 500_000), ("bob", 2, 0, HOUR, 250_000)];
        assert_eq!(owed(&uses, HOUR), told(&[("ada", 1_333_333), ("bob", 666_667)]));
        let both = [("ada", 1, 0, HOUR, WHOLE_PPM), ("bob", 2, 0, HOUR, 500_000)];
        assert_eq!(owed(&both, HOUR), told(&[]), "accelerators here, CPUs there: nothing is unused");
        let one_group = [("ada", 1, 0, HOUR, 250_000), ("ada", 2, 0, HOUR, 250_000)];
        assert_eq!(owed(&one_group, HOUR), told(&[("ada", 4_000_000)]));
    }

    #[test]
    fn an_end_without_a_begin_changes_nothing_and_a_meter_survives_storage() {
        let mut meter = IdleMeter::default();
        meter.end(PRICE, subject("ada", 1).attempt, UnixMs(5));
        assert_eq!(meter, IdleMeter::default());
        meter.begin(PRICE, subject("ada", 1), 250_000, UnixMs(5));
        meter.end(PRICE, subject("ada", 1).attempt, UnixMs(HOUR));
        let json = serde_json::to_string(&meter).unwrap();
        assert_eq!(serde_json::from_str::<IdleMeter>(&json).unwrap(), meter);
    }

    proptest! {
        /// With the uses' own shares of the cost it is the whole cost since the first use, save a micro for each step.
        #[test]
        fn owed_and_used_are_the_cost_since_the_first_use(
            uses in proptest::collection::vec((0_usize..3, 0_i64..100 * HOUR, 1_i64..50 * HOUR, 1_u32..=250_000), 1..4),
            after in 0_i64..100 * HOUR,
        ) {
            let names = ["ada", "bob", "eve"];
            let uses: Vec<_> = (1..)
                .zip(uses)
                .map(|(seed, (who, from, span, share))| (names[who], seed, from, from + span, share))
                .collect();
            let first = uses.iter().map(|it| it.2).min().unwrap();
            let to = uses.iter().map(|it| it.3).max().unwrap() + after;
            let ms = |span: i64| u64::try_from(span).unwrap();
            let used: i64 = uses.iter().map(|it| PRICE.cost_micros(u64::from(it.4), 1_000_000, 0, ms(it.3 - it.2))).sum();
            let whole = PRICE.cost_micros(1, 1, 0, ms(to - first));
            let owed: i64 = owed(&uses, to).iter().map(|(_, micros)| micros).sum();
            prop_assert!((owed + used - whole).abs() <= 16, "{} + {} is not {}", owed, used, whole);
        }
    }
}
