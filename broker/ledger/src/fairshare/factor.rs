//! Who used little for its share comes first: Slurm's classic fair-share factor.
//!
//! `factor = 2^-(effective use / share)`. A share is the product of what each level has among its siblings. Use is
//! effective where part of what siblings used counts as one's own: `own + (parent's - own) x shares / siblings'
//! shares`; at the top it is one's own.
//!
//! Fixed-point numbers of 40 binary digits; the power is made of square roots of a half.

/// One in the numbers of this module: parts of a million.
pub const ONE: u64 = 1_000_000;

/// Binary digits after the point.
const DIGITS: u32 = 40;
/// Binary digits of powers.
const POWER_DIGITS: u32 = 62;
/// Digits of an exponent that count: one more changes no millionth.
const EXPONENT_DIGITS: u32 = 32;

/// An account with its shares and what it used itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its parent's place in the list, which comes before its own; none at the top.
    pub parent: Option<usize>,
    /// Its shares among its siblings.
    pub shares: u64,
    /// What it used itself, without what is below it.
    pub used: u64,
}

/// Where an account stands, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    /// Its part of everything.
    pub share: u64,
    /// What it used of everything, with what is below it.
    pub used: u64,
    /// That, with its part of what its siblings used.
    pub effective: u64,
    /// From 0 to a million; who has more goes first.
    pub factor: u64,
}

/// Where each account stands, given what could have been used in all.
///
/// Source: Slurm's documentation of the classic fair-share algorithm, with a dampening factor of 1.
#[must_use]
pub fn factors(accounts: &[Account], total: u64) -> Vec<Factor> {
    let mut used: Vec<u64> = accounts.iter().map(|account| account.used).collect();
    for at in (0..accounts.len()).rev() {
        if let Some(parent) = accounts[at].parent.filter(|parent| *parent < at) {
            used[parent] = used[parent].saturating_add(used[at]);
        }
    }
    let mut rows: Vec<(u128, u128, u128)> = vec![];
    for (at, account) in accounts.iter().enumerate() {
        let siblings = accounts.iter().filter(|other| other.parent == account.parent);
        let all: u128 = siblings.map(|sibling| u128::from(sibling.shares)).sum::<u128>().max(1);
        let own_used = (u128::from(used[at]) << DIGITS) / u128::from(total.max(1));
        let above = account.parent.and_then(|parent| rows.get(parent)).copied();
        let (share_above, effective_above) =
            above.map_or((1 << DIGITS, own_used), |(share, _, used)| (share, used));
        let own_shares = u128::from(account.shares);
        let share = share_above * own_shares / all;
        let effective = own_used + effective_above.saturating_sub(own_used) * own_shares / all;
        rows.push((share, own_used, effective));
    }
    let row = |(share, used, effective): (u128, u128, u128)| Factor {
        share: millionths(share, DIGITS),
        used: millionths(used, DIGITS),
        effective: millionths(effective, DIGITS),
        factor: match share {
            0 => 0,
            share => millionths(half_to((effective << EXPONENT_DIGITS) / share), POWER_DIGITS),
        },
    };
    rows.into_iter().map(row).collect()
}

fn millionths(value: u128, digits: u32) -> u64 {
    let rounded = (value.saturating_mul(u128::from(ONE)) + (1 << (digits - 1))) >> digits;
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

/// `2^-exponent`, the exponent with [`EXPONENT_DIGITS`] binary digits, the power with [`POWER_DIGITS`].
fn half_to(exponent: u128) -> u128 {
    let whole = u32::try_from(exponent >> EXPONENT_DIGITS).unwrap_or(u32::MAX);
    if whole >= POWER_DIGITS {
        return 0;
    }
    let mut power: u128 = 1 << POWER_DIGITS;
    // 2^-(1/2), then its square root for each digit.
    let mut root: u128 = (1_u128 << (2 * POWER_DIGITS - 1)).isqrt();
    for digit in (0..EXPONENT_DIGITS).rev() {
        if exponent >> digit & 1 == 1 {
            power = (power * root) >> POWER_DIGITS;
        }
        root = (root << POWER_DIGITS).isqrt();
    }
    power >> whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn account(parent: Option<usize>, shares: u64, used: u64) -> Account {
        Account { parent, shares, used }
    }

    #[test]
    fn the_worked_example_of_the_documentation() {
        let accounts = [
            account(None, 40, 0),
            account(None, 60, 0),
            account(Some(0), 30, 0),
            account(Some(0), 10, 0),
            account(Some(1), 25, 0),
            account(Some(1), 35, 0),
            account(Some(2), 1, 20),
            account(Some(3), 1, 25),
            account(Some(3), 1, 0),
            account(Some(4), 1, 25),
            account(Some(5), 1, 0),
        ];
        let rows = factors(&accounts, 100);
        let users: Vec<u64> = rows[6..].iter().map(|row| row.factor).collect();
        assert_eq!(users, [408_479, 22_097, 125_000, 500_000, 749_154]);
        let shares: Vec<u64> = rows[6..].iter().map(|row| row.share).collect();
        assert_eq!(shares, [300_000, 50_000, 50_000, 250_000, 350_000]);
        let effective: Vec<u64> = rows.iter().map(|row| row.effective).collect();
        assert_eq!(
            effective,
            [
                450_000, 250_000, 387_500, 300_000, 250_000, 145_833, 387_500, 275_000, 150_000, 250_000,
                145_833
            ]
        );
        assert_eq!(rows[0].used, 450_000);
    }

    #[test]
    fn the_edges_of_the_factor() {
        let factor =
            |shares, used| factors(&[account(None, shares, used), account(None, 1, 0)], 100)[0].factor;
        assert_eq!(factor(1, 0), ONE, "nothing used");
        assert_eq!(factor(1, 50), ONE / 2, "as much as its share");
        assert_eq!(factor(0, 0), 0, "no share");
        assert_eq!(factor(1, u64::MAX), 0);
        assert_eq!(factors(&[], 0), []);
        assert_eq!(half_to(62 << EXPONENT_DIGITS), 0);
        assert_eq!(half_to(61 << EXPONENT_DIGITS), 2);
    }

    proptest::proptest! {
        #[test]
        fn more_use_never_raises_a_factor(shares in 1_u64..100, used in 0_u64..1000, more in 0_u64..1000) {
            let factor = |used| factors(&[account(None, shares, used), account(None, 50, 7)], 1000)[0].factor;
            proptest::prop_assert!(factor(used + more) <= factor(used));
        }
    }
}
