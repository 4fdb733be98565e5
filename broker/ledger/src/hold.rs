//! The money reserved for one attempt, and what its slices of use take from it.
//!
//! Metering is never refused: what costs more than the hold is charged as an overrun. Late use of a settled
//! attempt finds nothing left and is an overrun as a whole. A hold is released once.

use serde::{Deserialize, Serialize};
use spillway_types::HourlyRate;

use crate::entry::Transfer;
use crate::rates::EgressPrice;
use crate::{Account, Entry, EntryKind, Payee, Subject};

/// Blocks of one accelerator, the unit of a slice's share.
const BLOCKS_PER_GPU: u128 = 100;

/// Whether a hold still reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldState {
    /// What is not charged is reserved.
    Held,
    /// The rest was released. Final.
    Settled,
}

/// The money reserved for one attempt, in micros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    amount_micros: i64,
    charged_micros: i64,
    overrun_micros: i64,
    /// What bytes took of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    egress_micros: i64,
    state: HoldState,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(micros: &i64) -> bool {
    *micros == 0
}

/// One slice of one part's use, at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The part.
    pub rank: u32,
    /// Begin, in milliseconds from the start of the part.
    pub from_ms: u64,
    /// End, exclusive.
    pub to_ms: u64,
    /// What the whole part costs an hour: all its accelerators, or its share of the instance. Below 0 is taken as 0.
    pub rate: HourlyRate,
    /// Hundredths of an accelerator: 4 GPUs are 400.
    pub gpu_blocks: u64,
}

impl Slice {
    /// What it costs, in micros. Telescoping: any way of cutting an interval costs the same.
    #[must_use]
    pub fn cost_micros(&self) -> i64 {
        self.rate.cost_micros(1, 1, self.from_ms, self.to_ms).max(0)
    }

    /// GPU time in milliseconds, telescoping like the cost.
    #[must_use]
    pub fn gpu_ms(&self) -> u64 {
        let until = |ms: u64| u128::from(self.gpu_blocks) * u128::from(ms) / BLOCKS_PER_GPU;
        let span = until(self.to_ms.max(self.from_ms)) - until(self.from_ms);
        u64::try_from(span).unwrap_or(u64::MAX)
    }
}

impl Hold {
    /// Reserves `amount_micros` (below 0 is taken as 0) for the attempt of `subject`. Whether the budgets allow
    /// it is asked of [`crate::Book::can_hold`] first.
    #[must_use]
    pub fn place(subject: &Subject, amount_micros: i64) -> (Self, Entry) {
        let amount_micros = amount_micros.max(0);
        let (charged_micros, overrun_micros, egress_micros, state) = (0, 0, 0, HoldState::Held);
        let hold = Self { amount_micros, charged_micros, overrun_micros, egress_micros, state };
        let key = format!("{}/hold", subject.attempt);
        let reserve = Transfer {
            debit: Account::Held(subject.group.clone()),
            credit: Account::Committed,
            micros: amount_micros,
        };
        (hold, Entry::of_transfers(key, EntryKind::Hold, subject, 0, [reserve]))
    }

    /// Charges one slice: always an [`EntryKind::Charge`] with its GPU time and what the hold covers, and after it
    /// an [`EntryKind::Overrun`] where the hold does not cover all. That a slice is charged once is for
    /// [`crate::SliceBook`] to see to.
    #[must_use]
    pub fn charge(&mut self, subject: &Subject, payee: &Payee, slice: &Slice) -> Vec<Entry> {
        let cost = slice.cost_micros();
        let before = self.charged_micros.saturating_add(self.overrun_micros);
        let within = cost.min(self.left_micros());
        let beyond = cost - within;
        self.charged_micros += within;
        self.overrun_micros = self.overrun_micros.saturating_add(beyond);
        let key =
            |what| format!("{}/{}/{what}/{}-{}", subject.attempt, slice.rank, slice.from_ms, slice.to_ms);
        let spend = |before, micros| {
            let credits = payee.credits(before, micros).into_iter();
            credits.map(|(credit, micros)| Transfer {
                debit: Account::Spend(subject.group.clone()),
                credit,
                micros,
            })
        };
        let transfers = spend(before, within).chain([unreserve(subject, within)]);
        let charge = Entry::of_transfers(key("usage"), EntryKind::Charge, subject, slice.gpu_ms(), transfers);
        let overrun = (beyond > 0)
            .then(|| spend(before.saturating_add(within), beyond))
            .map(|spent| Entry::of_transfers(key("overrun"), EntryKind::Overrun, subject, 0, spent));
        std::iter::once(charge).chain(overrun).collect()
    }

    /// Charges the bytes of one transfer that left a site, from the `from`th to the `to`th: a charge of its own, one
    /// entry whatever the hold covers of it. `transfer` names the transfer, unique for the attempt; that its bytes are
    /// charged once is for the caller to see to. `None` where they cost nothing.
    #[must_use]
    pub fn charge_egress(
        &mut self,
        subject: &Subject,
        payee: &Payee,
        transfer: &str,
        price: EgressPrice,
        (from, to): (u64, u64),
    ) -> Option<Entry> {
        let micros = price.cost_micros(from, to);
        let within = micros.min(self.left_micros());
        self.egress_micros = self.egress_micros.saturating_add(within);
        let key = format!("{}/egress/{transfer}/{from}-{to}", subject.attempt);
        let spend =
            Transfer { debit: Account::Spend(subject.group.clone()), credit: payee.account(), micros };
        let transfers = [spend, unreserve(subject, within)];
        (micros != 0).then(|| Entry::of_transfers(key, EntryKind::Egress, subject, 0, transfers))
    }

    /// Ends the hold and releases what it did not need. `None` where nothing was left, and always the second time.
    #[must_use]
    pub fn settle(&mut self, subject: &Subject) -> Option<Entry> {
        let rest = self.left_micros();
        self.state = HoldState::Settled;
        let key = format!("{}/release", subject.attempt);
        (rest > 0)
            .then(|| Entry::of_transfers(key, EntryKind::Release, subject, 0, [unreserve(subject, rest)]))
    }

    /// What was reserved.
    #[must_use]
    pub const fn amount_micros(&self) -> i64 {
        self.amount_micros
    }

    /// What slices were charged within the hold. What all of them cost is this and the overrun.
    #[must_use]
    pub const fn charged_micros(&self) -> i64 {
        self.charged_micros
    }

    /// What was charged above the hold.
    #[must_use]
    pub const fn overrun_micros(&self) -> i64 {
        self.overrun_micros
    }

    /// Whether it still reserves.
    #[must_use]
    pub const fn state(&self) -> HoldState {
        self.state
    }

    /// What it still reserves: 0 once settled.
    #[must_use]
    pub const fn left_micros(&self) -> i64 {
        match self.state {
            HoldState::Held => self.amount_micros - self.charged_micros - self.egress_micros,
            HoldState::Settled => 0,
        }
    }
}

/// Takes `micros` out of what the group holds.
fn unreserve(subject: &Subject, micros: i64) -> Transfer {
    Transfer { debit: Account::Committed, credit: Account::Held(subject.group.clone()), micros }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{payee, subject};

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    fn slice(from_ms: u64, to_ms: u64, rate: i64, gpu_blocks: u64) -> Slice {
        Slice { rank: 0, from_ms, to_ms, rate: HourlyRate(rate), gpu_blocks }
    }

    #[test]
    fn four_gpus_for_a_day_are_345_600_gpu_seconds() {
        assert_eq!(slice(0, DAY, 0, 400).gpu_ms(), 345_600_000);
        let cut: u64 =
            (0..DAY / 7777 + 1).map(|i| slice(i * 7777, ((i + 1) * 7777).min(DAY), 0, 33).gpu_ms()).sum();
        assert_eq!(cut, slice(0, DAY, 0, 33).gpu_ms());
        assert_eq!(slice(5, 3, 1, 400).gpu_ms(), 0);
        assert_eq!(slice(0, u64::MAX, 1, u64::MAX).gpu_ms(), u64::MAX);
    }

    #[test]
    fn a_day_at_2_49_in_slices_of_five_seconds_costs_59_76() {
        let subject = subject("vision", 1);
        let (mut hold, _) = Hold::place(&subject, 59_760_000);
        for i in 0..DAY / 5000 {
            let entries = hold.charge(&subject, &payee(), &slice(i * 5000, (i + 1) * 5000, 2_490_000, 100));
            assert_eq!(entries.len(), 1, "no overrun");
        }
        assert_eq!((hold.charged_micros(), hold.overrun_micros(), hold.left_micros()), (59_760_000, 0, 0));
        assert_eq!(hold.settle(&subject), None);
        assert_eq!(hold.state(), HoldState::Settled);
    }

    #[test]
    fn spot_segments_are_each_charged_at_their_own_price() {
        let cost = slice(0, 8 * HOUR, 4 * 200_000, 400).cost_micros()
            + slice(8 * HOUR, 10 * HOUR, 4 * 370_000, 400).cost_micros();
        assert_eq!(cost, 9_360_000);
        let cost = slice(0, 3 * HOUR, 96_000, 100).cost_micros()
            + slice(3 * HOUR, 6 * HOUR, 384_000, 100).cost_micros();
        assert_eq!(cost, 1_440_000);
        assert_eq!(slice(0, HOUR, -5, 100).cost_micros(), 0);
    }

    #[test]
    fn what_the_hold_does_not_cover_is_an_overrun() {
        let subject = subject("vision", 1);
        let (mut hold, placed) = Hold::place(&subject, 1_500_000);
        assert_eq!(placed.key(), format!("{}/hold", subject.attempt));
        let first = hold.charge(&subject, &payee(), &slice(0, HOUR, 1_000_000, 100));
        assert_eq!(first.iter().map(Entry::kind).collect::<Vec<_>>(), [EntryKind::Charge]);
        let second = hold.charge(&subject, &payee(), &slice(HOUR, 2 * HOUR, 1_000_000, 100));
        let described: Vec<_> = second.iter().map(|e| (e.kind(), e.spend_micros(), e.gpu_ms())).collect();
        assert_eq!(described, [(EntryKind::Charge, 500_000, HOUR), (EntryKind::Overrun, 500_000, 0)]);
        assert_eq!(second[1].key(), format!("{}/0/overrun/3600000-7200000", subject.attempt));
        assert_eq!((hold.charged_micros(), hold.overrun_micros()), (1_500_000, 500_000));
    }

    #[test]
    fn bytes_are_a_charge_of_their_own_that_the_hold_pays() {
        let subject = subject("vision", 1);
        let (mut hold, _) = Hold::place(&subject, 1_000_000);
        let price: EgressPrice = "0.09".parse().unwrap();
        let mut charge = |bytes| hold.charge_egress(&subject, &payee(), "0/imagenet/0", price, bytes);
        let whole = charge((0, 2_000_000_000)).unwrap();
        assert_eq!((whole.kind(), whole.spend_micros(), whole.gpu_ms()), (EntryKind::Egress, 180_000, 0));
        assert!(whole.key().ends_with("/egress/0/imagenet/0/0-2000000000"), "{}", whole.key());
        assert_eq!(whole.beyond_hold_micros(), 0);
        assert_eq!(charge((5, 5)), None);
        let more = charge((2_000_000_000, 12_000_000_000)).unwrap();
        assert_eq!((more.spend_micros(), more.beyond_hold_micros()), (900_000, 80_000));
        assert_eq!((hold.left_micros(), hold.charged_micros(), hold.overrun_micros()), (0, 0, 0));
        assert_eq!(hold.settle(&subject), None);
        let late = hold.charge_egress(&subject, &payee(), "0/imagenet/1", price, (0, 1_000_000_000)).unwrap();
        assert_eq!((late.spend_micros(), late.beyond_hold_micros()), (90_000, 90_000));
        let json = serde_json::to_string(&Hold::place(&subject, 1).0).unwrap();
        assert!(
            !json.contains("egress"),
            "what was held before bytes were charged reads and writes as before: {json}"
        );
    }

    #[test]
    fn a_hold_is_released_once_and_late_use_is_an_overrun() {
        let subject = subject("vision", 1);
        let (mut hold, _) = Hold::place(&subject, 5_000_000);
        let release = hold.settle(&subject).unwrap();
        assert_eq!(release.kind(), EntryKind::Release);
        assert_eq!(hold.settle(&subject), None);
        let late = hold.charge(&subject, &payee(), &slice(0, HOUR, 1_000_000, 100));
        assert_eq!(late[0].postings(), []);
        assert_eq!((late[0].gpu_ms(), late[1].spend_micros()), (HOUR, 1_000_000));
    }

    #[test]
    fn use_that_costs_nothing_is_still_in_the_journal() {
        let subject = subject("vision", 1);
        let (mut hold, placed) = Hold::place(&subject, -3);
        assert_eq!((hold.amount_micros(), placed.postings()), (0, [].as_slice()));
        let entries = hold.charge(&subject, &payee(), &slice(0, 1000, 0, 200));
        assert_eq!((entries.len(), entries[0].gpu_ms(), entries[0].spend_micros()), (1, 2000, 0));
    }
}
