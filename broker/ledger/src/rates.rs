//! What use costs: rates with effective dates, what a provider bills, and who pays for what nobody used.
//!
//! [`RateBook`] has the rate cards of pools: flat, or from what a pool costs ([`PoolCost`]). [`Capacity`] is what a pool
//! could give, and [`costed_month`] what its month costs by its cards; [`Unused`] says who pays for what nobody used. [`tiles`] cuts a use at
//! each change of its rate, each day and each period; what the tiles cost is what the whole costs. [`BillingTerms`]
//! are a provider's minimum and increment, [`IdleMeter`] says who caused the cost of an instance that no slice
//! was charged, [`EgressPrice`] prices bytes, [`Lending`] credits the owner of a lent machine, and [`CurrencyTable`]
//! says what other currencies are worth in the deployment's, day by day.
//!
//! Every amount is an integer; each function states how it rounds.

mod billing;
mod capacity;
mod card;
mod currency;
mod egress;
mod exchange;
mod idle;
mod lending;
mod month;
mod pool;
mod tile;
mod track;
mod unused;

pub use billing::{BillingTerms, EndCause};
pub use capacity::Capacity;
pub use card::{Card, RateBook, RateError};
pub use currency::{CurrencyError, CurrencyTable, Stated, Stretch};
pub use egress::{EgressError, EgressPrice};
pub use exchange::{ExchangeRate, sum_into};
pub use idle::{IdleMeter, WHOLE_PPM};
pub use lending::{Lending, LendingError};
pub use month::{CostedMonth, costed_month};
pub use pool::{ClassShare, MAX_AMOUNT_MICROS, MAX_LIFETIME_MONTHS, MonthCost, PoolCost, PoolCostError};
pub use tile::{Tile, tiles};
pub use track::RateTrack;
pub use unused::{MAX_SHARE, Unused, UnusedError};

/// `value / by`, rounded to the nearest integer, halves away from zero. `by` is over 0.
pub(crate) const fn div_round(value: i128, by: i128) -> i128 {
    let half = by / 2;
    let shifted = if value < 0 { value.saturating_sub(half) } else { value.saturating_add(half) };
    shifted / by
}

#[cfg(test)]
mod tests {
    use super::div_round;

    #[test]
    fn halves_go_away_from_zero() {
        for (value, by, expected) in [
            (5, 10, 1),
            (4, 10, 0),
            (-5, 10, -1),
            (-4, 10, 0),
            (15, 10, 2),
            (-15, 10, -2),
            (1, 3, 0),
            (2, 3, 1),
            (7, 1, 7),
        ] {
            assert_eq!(div_round(value, by), expected, "{value} / {by}");
        }
    }
}
