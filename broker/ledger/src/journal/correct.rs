//! Puts right what was charged: the whole entry is taken back, and what it should have been is posted.
//!
//! Both carry the effective time of what they correct, so that the charge period stays the original one, and where
//! that is closed they are booked into the first open one, on its invoice. A hold that was settled is not opened
//! again: a reversal takes back what was spent, not what was released.

use crate::{Account, Amendment, Entry, EntryKind, Posting, Unbalanced, Usage};

/// Why an entry cannot be corrected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorrectionError {
    /// It moves no money.
    #[error("entry `{key}` is a {kind}, which charges nothing: only what was charged can be corrected", kind = kind.as_str())]
    NoCharge {
        /// Its key.
        key: String,
        /// Its kind.
        kind: EntryKind,
    },
    /// What was charged does not balance without what was held: it was paid from an account of holds.
    #[error(transparent)]
    Unbalanced(#[from] Unbalanced),
    /// It takes something back itself.
    #[error("entry `{key}` takes back another one: correct what replaced that one instead")]
    Reversal {
        /// Its key.
        key: String,
    },
}

fn check(original: &Entry) -> Result<(), CorrectionError> {
    let key = || original.key().to_owned();
    match (original.kind(), original.amends()) {
        (kind @ (EntryKind::Hold | EntryKind::Release), _) => {
            Err(CorrectionError::NoCharge { key: key(), kind })
        }
        (_, Some(Amendment::Reverses { .. })) => Err(CorrectionError::Reversal { key: key() }),
        (
            EntryKind::Charge | EntryKind::Overrun | EntryKind::Overhead | EntryKind::Egress,
            Some(Amendment::Replaces { .. }) | None,
        ) => Ok(()),
    }
}

const fn is_hold(account: &Account) -> bool {
    matches!(account, Account::Held(_) | Account::Committed)
}

/// The entry that takes back all that `original` charged. Its key is made of the original's, so that it happens once.
///
/// # Errors
/// [`CorrectionError`] where the entry charges nothing, or is a reversal.
pub fn reversal(original: &Entry) -> Result<Entry, CorrectionError> {
    check(original)?;
    let charged = original.postings().iter().filter(|posting| !is_hold(&posting.account));
    let back = |posting: &Posting| Posting { account: posting.account.clone(), micros: -posting.micros };
    let postings = charged.map(back).collect();
    let key = format!("{}/reversal", original.key());
    let amends = Amendment::Reverses { key: original.key().to_owned() };
    amendment(original, key, original.gpu_ms(), postings, amends)
}

/// The entry that `original` should have been: `gpu_ms` of use for `micros`, by the same group to the same payee.
///
/// # Errors
/// As [`reversal`].
pub fn replacement(original: &Entry, gpu_ms: u64, micros: i64) -> Result<Entry, CorrectionError> {
    check(original)?;
    let key = format!("{}/replacement", original.key());
    let amends = Amendment::Replaces { key: original.key().to_owned() };
    let spend = Account::Spend(original.subject().group.clone());
    let micros = micros.max(-i64::MAX);
    let credits = credits_like(original, micros).into_iter().map(|(payee, micros)| (payee, -micros));
    let postings = std::iter::once((spend, micros)).chain(credits).filter(|(_, micros)| *micros != 0);
    let postings = postings.map(|(account, micros)| Posting { account, micros }).collect();
    amendment(original, key, gpu_ms, postings, amends)
}

/// `micros` among those who were paid, in the proportion in which they were; the last takes what rounding leaves.
fn credits_like(original: &Entry, micros: i64) -> Vec<(Account, i64)> {
    let is_paid = |account: &Account| {
        matches!(account, Account::Revenue(_) | Account::Payable { .. } | Account::Owner(_))
    };
    let paid: Vec<&Posting> =
        original.postings().iter().filter(|posting| is_paid(&posting.account)).collect();
    let total: i128 = paid.iter().map(|posting| i128::from(posting.micros)).sum();
    let Some((last, others)) = paid.split_last().filter(|_| total != 0) else {
        return vec![(Account::Revenue(original.subject().site.clone()), micros)];
    };
    let share = |posting: &&Posting| {
        let part = i128::from(micros) * i128::from(posting.micros) / total;
        (posting.account.clone(), i64::try_from(part).unwrap_or(micros))
    };
    let mut credits: Vec<(Account, i64)> = others.iter().map(share).collect();
    let rest = credits.iter().fold(micros, |rest, (_, part)| rest.saturating_sub(*part));
    credits.push((last.account.clone(), rest));
    credits
}

/// What `weighed` milliseconds by weight become where `was` milliseconds become `is`, rounded down; where there were
/// none, nothing says what they weigh.
fn in_proportion(weighed: u64, is: u64, was: u64) -> u64 {
    let scaled = u128::from(weighed) * u128::from(is);
    scaled.checked_div(u128::from(was)).map_or(is, |scaled| u64::try_from(scaled).unwrap_or(u64::MAX))
}

fn amendment(
    original: &Entry,
    key: String,
    gpu_ms: u64,
    postings: Vec<Posting>,
    amends: Amendment,
) -> Result<Entry, CorrectionError> {
    let entry = Entry::new(key, original.kind(), original.subject().clone(), gpu_ms, postings)?;
    let entry = entry.amending(amends);
    let entry = match original.usage() {
        Some(usage) => entry.using(Usage {
            normalised_ms: usage.normalised_ms.map(|ms| in_proportion(ms, gpu_ms, original.gpu_ms())),
            ..usage.clone()
        }),
        None => entry,
    };
    Ok(match original.effective_at() {
        Some(at) => entry.effective(at),
        None => entry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{payee, subject};
    use crate::{Hold, Slice};
    use spillway_types::{HourlyRate, UnixMs};

    fn charged() -> (Entry, Entry) {
        let subject = subject("vision", 1);
        let (mut hold, placed) = Hold::place(&subject, 5_000_000);
        let slice =
            Slice { rank: 0, from_ms: 0, to_ms: 3_600_000, rate: HourlyRate(2_000_000), gpu_blocks: 200 };
        (placed, hold.charge(&subject, &payee(), &slice).remove(0).effective(UnixMs(7)))
    }

    #[test]
    fn a_reversal_takes_back_what_was_spent_and_leaves_the_hold() {
        let (_, charge) = charged();
        assert_eq!(charge.postings().len(), 4, "spend, revenue, held, committed");
        let back = reversal(&charge).unwrap();
        assert_eq!(back.spend_micros() + charge.spend_micros(), 0);
        assert_eq!(back.signed_gpu_ms() + charge.signed_gpu_ms(), 0);
        assert_eq!(back.key(), format!("{}/reversal", charge.key()));
        assert!(back.postings().iter().all(|posting| !is_hold(&posting.account)));
        assert_eq!(back.effective_at(), Some(UnixMs(7)));
        let json = serde_json::to_string(&back).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), back);
    }

    #[test]
    fn a_replacement_is_paid_by_and_to_the_same() {
        let (_, charge) = charged();
        let right = replacement(&charge, 3_600_000, 1_500_000).unwrap();
        assert_eq!((right.spend_micros(), right.gpu_ms()), (1_500_000, 3_600_000));
        assert_eq!((right.payee(), right.subject()), (charge.payee(), charge.subject()));
        assert_eq!(replacement(&charge, 0, 0).unwrap().postings(), []);
        let again = reversal(&right).unwrap();
        assert_eq!(again.spend_micros(), -1_500_000, "a replacement can be wrong too");
    }

    #[test]
    fn what_charges_nothing_and_what_takes_back_cannot_be_corrected() {
        let (placed, charge) = charged();
        let error = reversal(&placed).unwrap_err().to_string();
        assert!(error.contains("is a hold, which charges nothing"), "{error}");
        let error = replacement(&reversal(&charge).unwrap(), 0, 0).unwrap_err();
        assert!(matches!(error, CorrectionError::Reversal { .. }));
    }
}
