//! Cuts a use at each change of its rate, each day and each period.
//!
//! Offsets count from the start of the use, so that the cost of tiles telescopes: cutting the use once more, or not
//! at all between two changes of the rate, conserves the cost exactly.

use serde::{Deserialize, Serialize};
use spillway_types::{HourlyRate, UnixMs};

use super::RateTrack;
use crate::calendar::{Period, Zone, calendar_cuts};

/// A piece of a use: one rate, one day, one period. Half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Begin, in milliseconds from the start of the use.
    pub from_ms: u64,
    /// End, exclusive.
    pub to_ms: u64,
    /// The begin as an instant.
    pub at: UnixMs,
    /// What an hour costs, frozen at the begin.
    pub rate: HourlyRate,
    /// The period it falls into.
    pub period: Period,
}

impl Tile {
    /// What `parts` of `of` of the thing priced cost during the tile, in micros; rounded down on the cumulative
    /// cost since the start of the use.
    #[must_use]
    pub fn cost_micros(&self, parts: u64, of: u64) -> i64 {
        self.rate.cost_micros(parts, of, self.from_ms, self.to_ms)
    }
}

/// The tiles of what ran from `from_ms` to `to_ms` after `start`, in order, without gap or overlap. Where no rate is
/// known yet, the rate is 0: whoever sets rates is told by [`super::RateBook::rate_at`].
#[must_use]
pub fn tiles(start: UnixMs, (from_ms, to_ms): (u64, u64), rates: &RateTrack, zone: &Zone) -> Vec<Tile> {
    let instant = |ms: u64| UnixMs(start.0.saturating_add_unsigned(ms));
    let (from, to) = (instant(from_ms), instant(to_ms));
    if to_ms <= from_ms {
        return vec![];
    }
    let mut cuts = calendar_cuts(from, to, zone);
    cuts.extend(rates.changes(from, to));
    cuts.sort_unstable();
    cuts.dedup();
    let edges = cuts.into_iter().map(|cut| cut.since(start).0);
    let edges: Vec<u64> = std::iter::once(from_ms).chain(edges).chain([to_ms]).collect();
    let pairs = edges.iter().zip(edges.iter().skip(1));
    let tile = |(from_ms, to_ms): (&u64, &u64)| {
        let at = instant(*from_ms);
        let rate = rates.at(at).unwrap_or_default();
        Tile { from_ms: *from_ms, to_ms: *to_ms, at, rate, period: Period::of(at, zone) }
    };
    pairs.map(tile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn cost(tiles: &[Tile], parts: u64) -> i64 {
        tiles.iter().map(|tile| tile.cost_micros(parts, 1)).sum()
    }

    fn track(rates: &[(u64, i64)]) -> RateTrack {
        rates.iter().map(|(at, rate)| (UnixMs(i64::try_from(*at).unwrap()), HourlyRate(*rate))).collect()
    }

    #[test]
    fn spot_segments_cost_their_own_price_each() {
        // 4 GPUs: 8 h at 0.20, then 2 h at 0.37; not all ten hours at the last price, which would be 14.80.
        let rates = track(&[(0, 200_000), (8 * HOUR, 370_000)]);
        assert_eq!(cost(&tiles(UnixMs(0), (0, 10 * HOUR), &rates, &Zone::utc()), 4), 9_360_000);
        let rates = track(&[(0, 96_000), (3 * HOUR, 384_000)]);
        assert_eq!(cost(&tiles(UnixMs(0), (0, 6 * HOUR), &rates, &Zone::utc()), 1), 1_440_000);
    }

    #[test]
    fn a_day_of_five_second_slices_at_2_49_is_59_76() {
        let rates = RateTrack::constant(HourlyRate(2_490_000));
        let slices = (0..17_280_u64)
            .flat_map(|i| tiles(UnixMs(12_345_678), (i * 5000, (i + 1) * 5000), &rates, &Zone::utc()));
        assert_eq!(cost(&slices.collect::<Vec<_>>(), 1), 59_760_000);
    }

    #[test]
    fn tiles_are_of_one_rate_one_day_and_one_period() {
        let seoul: Zone = "Asia/Seoul".parse().unwrap();
        // 2026-03-30T20:00Z to 2026-04-01T04:00Z; the rate changes at 2026-03-31T12:00Z.
        let start = UnixMs(1_774_900_800_000);
        let rates = [(UnixMs(0), HourlyRate(1)), (UnixMs(start.0 + 16 * 3_600_000), HourlyRate(2))];
        let tiles = tiles(start, (0, 32 * HOUR), &rates.into_iter().collect(), &seoul);
        let told: Vec<_> =
            tiles.iter().map(|it| (it.from_ms / HOUR, it.rate.0, it.period.to_string())).collect();
        let expected = [
            (0, 1, "2026-03"),
            (4, 1, "2026-03"),
            (16, 2, "2026-03"),
            (19, 2, "2026-04"),
            (28, 2, "2026-04"),
        ];
        assert_eq!(told, expected.map(|(hour, rate, period)| (hour, rate, period.to_owned())));
        assert_eq!(super::tiles(start, (5, 5), &RateTrack::default(), &seoul), []);
    }

    proptest! {
        /// Invariants 4 and 5, and 13: tiles cover the use exactly; any cut, and any zone, conserves the cost.
        #[test]
        fn cutting_anywhere_conserves_the_cost(
            start in 1_600_000_000_000_i64..1_900_000_000_000,
            edges in proptest::collection::btree_set(0_u64..20 * 86_400_000, 2..8),
            changes in proptest::collection::vec((-86_400_000_i64..20 * 86_400_000, 0_i64..50_000_000), 0..6),
            parts in 1_u64..800,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe"]),
        ) {
            let start = UnixMs(start);
            let mut rates = RateTrack::constant(HourlyRate(1_234_567));
            changes.iter().for_each(|(at, rate)| rates.set(UnixMs(start.0 + at), HourlyRate(*rate)));
            let edges: Vec<u64> = edges.into_iter().collect();
            let (first, last) = (edges[0], *edges.last().unwrap());
            let whole = tiles(start, (first, last), &rates, &Zone::utc());
            let zone: Zone = zone.parse().unwrap();
            let pieces: Vec<Tile> =
                edges.windows(2).flat_map(|pair| tiles(start, (pair[0], pair[1]), &rates, &zone)).collect();
            prop_assert_eq!(cost(&whole, parts), cost(&pieces, parts));
            for tiles in [&whole, &pieces] {
                prop_assert_eq!(tiles.first().unwrap().from_ms, first);
                prop_assert_eq!(tiles.last().unwrap().to_ms, last);
                prop_assert!(tiles.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms));
                prop_assert!(tiles.iter().all(|tile| tile.from_ms < tile.to_ms));
            }
        }
    }
}
