//! What searches have found: nothing like it, nothing that asks more and nothing longer starts before on the nodes of a
//! kind, until something is given back. While a plan is laid, this comes ever closer to what a search would find.

use std::cell::Cell;

use crate::layout::{ClassMask, Need};

use crate::index::{Ask, LENGTHS, length_class};
use crate::trees::Seconds;

/// Into so many parts the lengths of a column are divided.
const PARTS: usize = 8;

/// What is known of one kind in one column.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// What it holds for, and after which gift.
    asked: Cell<Option<(Need, ClassMask, u64)>>,
    /// For runs at least as long as each part's shortest: no start before.
    soonest: [Cell<Seconds>; PARTS],
    /// The same for runs at least as long as the last that was asked for, in milliseconds.
    last: Cell<(i64, Seconds)>,
}

impl Learned {
    /// No start before this, as far as searches since the last gift have found.
    pub(crate) fn soonest(&self, ask: &Ask, given_back: u64) -> Option<Seconds> {
        let (need, mask, after) = self.asked.get()?;
        if after != given_back || mask != ask.mask || !ask.need.asks_at_least(&need) {
            return None;
        }
        let parts = self.soonest[part_of(ask.span_ms).0].get();
        let (span_ms, soonest) = self.last.get();
        Some(if span_ms <= ask.span_ms { parts.max(soonest) } else { parts })
    }

    /// A search has found nothing before `soonest`.
    pub(crate) fn learn(&self, ask: &Ask, soonest: Seconds, given_back: u64) {
        let asked = Some((ask.need, ask.mask, given_back));
        if self.asked.get() != asked {
            self.asked.set(asked);
            self.soonest.iter().for_each(|part| part.set(Seconds::MIN));
        }
        self.last.set((ask.span_ms, soonest));
        // It says nothing of shorter runs: nothing of its own part, but where it is the shortest there.
        let (part, is_shortest) = part_of(ask.span_ms);
        for known in self.soonest.iter().skip(part + usize::from(!is_shortest)) {
            known.set(known.get().max(soonest));
        }
    }
}

/// The part of its column's lengths that a length is in, and whether none there is shorter.
fn part_of(span_ms: i64) -> (usize, bool) {
    let class = length_class(span_ms);
    let least = LENGTHS[class];
    let parts = PARTS as i64;
    let width = (LENGTHS.get(class + 1).map_or(least, |next| next - least) / parts).max(1);
    let part = ((span_ms - least) / width).clamp(0, parts - 1);
    (usize::try_from(part).unwrap_or(0), span_ms == least + part * width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Want;

    #[test]
    fn what_is_learned_holds_for_what_asks_more_and_runs_longer_only() {
        let ask = |cpus_milli, span_ms| Ask {
            need: Need { want: Want::Whole(2), cpus_milli, memory_mib: 1 },
            mask: 1,
            span_ms,
        };
        let learned = Learned::default();
        assert_eq!(learned.soonest(&ask(1, 300_000), 0), None, "nothing yet");
        // The parts of this column are 37.5 s wide.
        learned.learn(&ask(5, 400_000), 70, 0);
        learned.learn(&ask(5, 330_000), 40, 0);
        for (cpus, span_ms, given_back, expected) in [
            (5, 330_000, 0, Some(40)),
            (9, 330_000, 0, Some(40)),
            (4, 330_000, 0, None),
            (5, 330_000, 1, None),
            (5, 329_999, 0, Some(Seconds::MIN)),
            (5, 412_499, 0, Some(40)),
            (5, 412_500, 0, Some(70)),
            (5, 599_000, 0, Some(70)),
        ] {
            assert_eq!(learned.soonest(&ask(cpus, span_ms), given_back), expected, "{cpus} {span_ms}");
        }
        let gang = Ask { mask: 3, ..ask(5, 330_000) };
        assert_eq!(learned.soonest(&gang, 0), None, "other accelerators");
        learned.learn(&ask(5, 300_000), 50, 1);
        assert_eq!(
            learned.soonest(&ask(5, 599_000), 1),
            Some(50),
            "what was known before a gift is forgotten"
        );
    }

    #[test]
    fn the_shortest_run_of_a_part_speaks_for_it() {
        for (span_ms, expected) in [
            (0, (0, true)),
            (1, (0, false)),
            (37_500, (1, true)),
            (299_999, (7, false)),
            (300_000, (0, true)),
            (600_000, (0, true)),
            (153_600_000, (0, true)),
            (i64::MAX / 4, (7, false)),
        ] {
            assert_eq!(part_of(span_ms), expected, "{span_ms}");
        }
    }
}
