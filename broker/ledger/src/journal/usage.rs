//! Usage events: their keys, the running hash over them, and what a source must have said before a period closes.
//!
//! 1. A source, which is a node, numbers all it sends. What says how much was used has a key: (source, number).
//! 2. Both sides keep a [`UsageMark`] of what they sent and took: how many, the first and last number, and a hash of
//!    each event after the one before. So a repetition is known by its number, and whatever was lost, added, swapped or
//!    changed on the way makes the two marks differ for ever.
//! 3. The source says its mark now and then, and until when all use is in it. [`NodeUsage`] notes of that what a period's
//!    close needs, and [`NodeUsage::gap`] is the gate.
//! 4. A source that has lost its mark, or never had one, begins a new one behind what was taken. The one before is
//!    folded into [`NodeUsage::earlier`].

use serde::{Deserialize, Serialize};
use spillway_types::{AttemptId, UnixMs};

use super::chain::Digest;
use super::manifest::Fold;
use crate::calendar::{Period, Zone};

/// What a usage event says: that a part of an attempt ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageEvent {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part.
    pub rank: u32,
    /// Begin, in milliseconds from the part's start.
    pub from_ms: u64,
    /// End, exclusive.
    pub to_ms: u64,
    /// Whether the part ended, which says all of its use again.
    pub ended: bool,
}

impl UsageEvent {
    /// What is hashed: every field in a fixed number of bytes.
    fn payload(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(37);
        bytes.extend_from_slice(self.attempt.uuid().as_bytes());
        bytes.extend_from_slice(&self.rank.to_be_bytes());
        bytes.extend_from_slice(&self.from_ms.to_be_bytes());
        bytes.extend_from_slice(&self.to_ms.to_be_bytes());
        bytes.push(u8::from(self.ended));
        bytes
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new: charge it.
    New,
    /// Its number was taken before: charge nothing, whatever it says now.
    Known,
}

/// All usage events of a source behind a number, in four values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageMark {
    /// It is of the events with numbers over this one.
    pub after: u64,
    /// How many say what was used.
    pub count: u64,
    /// The numbers of the first and the last of these; none where there is none.
    #[serde(default)]
    pub range: Option<(u64, u64)>,
    /// SHA-256 of the hash before, the number and the content, of each in turn; zeros before the first.
    pub hash: Digest,
}

impl UsageMark {
    /// No event yet of those behind a number.
    #[must_use]
    pub fn begin(after: u64) -> Self {
        Self { after, ..Self::default() }
    }

    /// Takes the event of a number. Numbers rise: one that is not over the last was taken.
    pub fn take(&mut self, number: u64, event: &UsageEvent) -> Taken {
        if number <= self.last() {
            return Taken::Known;
        }
        let (key, payload) = (number.to_be_bytes(), event.payload());
        self.hash = Digest::of_fields([self.hash.bytes().as_slice(), &key, &payload]);
        self.count = self.count.saturating_add(1);
        self.range = Some((self.range.map_or(number, |(first, _)| first), number));
        Taken::New
    }

    /// The number of the last event; that behind which it begins where there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.range.map_or(self.after, |(_, last)| last)
    }
}

impl std::fmt::Display for UsageMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.range {
            Some((first, last)) => {
                write!(f, "{} usage events, numbers {first} to {last}, SHA-256 {}", self.count, self.hash)
            }
            None => write!(f, "no usage event behind number {}", self.after),
        }
    }
}

/// What a node last said of its usage events, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "said")]
pub enum Said {
    /// What it had sent was what is here.
    Fits {
        /// All use before this was in it.
        complete_to: UnixMs,
    },
    /// It was not. That stays so until it begins a new mark.
    Differs {
        /// What it had sent.
        sent: UsageMark,
        /// What was here.
        here: UsageMark,
    },
}

/// Why not all use of a node is known to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageGap {
    /// It has not said so.
    #[error("{}, here are {here}; wait until it is connected", silence(*complete_to))]
    Unsaid {
        /// Until when it had said that all is here; none where it never did.
        complete_to: Option<UnixMs>,
        /// What is here.
        here: UsageMark,
    },
    /// What it sent is not what is here.
    #[error("it said that it had sent {sent}, and here were {here}: events were lost or changed on the way")]
    Differs {
        /// What it had sent.
        sent: UsageMark,
        /// What was here.
        here: UsageMark,
    },
}

fn silence(complete_to: Option<UnixMs>) -> String {
    match complete_to {
        Some(at) => format!("it last said that its use before {at} is here"),
        None => "it has never said until when its use is here".to_owned(),
    }
}

/// What is known of a node's usage events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeUsage {
    /// What was taken.
    #[serde(default)]
    pub mark: UsageMark,
    /// The marks before, where it began new ones.
    #[serde(default, skip_serializing_if = "Fold::is_empty")]
    pub earlier: Fold,
    /// What it last said that mattered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
    /// When it first had a part of an attempt, and when one last came or went; none where it never had any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<(UnixMs, UnixMs)>,
}

impl NodeUsage {
    /// Behind which number a new mark has to begin, where the node's next event gets the number `next`, its own mark begins
    /// behind `after`, and `acked` is the newest event that is here. None where both have the same mark.
    ///
    /// A spool whose next event is here already was begun anew, and goes on behind what is here. A mark that begins
    /// elsewhere is of a spool from before marks, or of a database from before them.
    #[must_use]
    pub fn anew(&self, next: u64, after: u64, acked: u64) -> Option<u64> {
        let behind = if next <= acked {
            acked
        } else if after == self.mark.after {
            after
        } else {
            after.max(acked)
        };
        Some(behind).filter(|behind| *behind != self.mark.after)
    }

    /// The node begins a new mark.
    pub fn begin(&mut self, after: u64) {
        if self.mark.count > 0 {
            self.earlier.add("mark", self.mark.count, self.mark.hash);
        }
        self.mark = UsageMark::begin(after);
        self.said = None;
    }

    /// A part of an attempt came or went.
    pub fn note_work(&mut self, at: UnixMs) {
        self.worked = Some((self.worked.map_or(at, |(first, _)| first), at));
    }

    /// How many usage events were ever taken.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.earlier.count.saturating_add(self.mark.count)
    }

    /// Whether what the node says now is worth noting: it sent something else than what is here, or its use is here
    /// beyond the end of a month for the first time, or it rests and all that it ever used is. What it sent and has not
    /// arrived (`acked` is the newest number that has) can be compared later.
    #[must_use]
    pub fn is_news(
        &self,
        sent: &UsageMark,
        complete_to: UnixMs,
        (acked, works_now): (u64, bool),
        zone: &Zone,
    ) -> bool {
        if sent.last() > acked {
            return false;
        }
        let (said, since) = match self.said {
            Some(Said::Differs { .. }) => return false,
            Some(Said::Fits { complete_to }) => (Some(complete_to), Some(complete_to)),
            None => (None, self.worked.map(|(first, _)| first)),
        };
        let over = since.is_some_and(|since| complete_to >= Period::of(since, zone).end(zone));
        let at_rest = |at: UnixMs| self.has_rested_by(at, works_now);
        *sent != self.mark || over || (at_rest(complete_to) && !said.is_some_and(at_rest))
    }

    /// Whether nothing was used after the instant: no part of an attempt is there now, and the last one had gone by then.
    fn has_rested_by(&self, at: UnixMs, works_now: bool) -> bool {
        !works_now && self.worked.is_some_and(|(_, last)| at >= last)
    }

    /// Notes what the node says.
    pub fn hear(&mut self, sent: UsageMark, complete_to: UnixMs) {
        let here = self.mark;
        self.said =
            Some(if sent == here { Said::Fits { complete_to } } else { Said::Differs { sent, here } });
    }

    /// Why not all of the node's use in a period is known to be here; none where it is: the node has said so, also before it
    /// went to rest for good, or had no part of an attempt then.
    #[must_use]
    pub fn gap(&self, (begins, ends): (UnixMs, UnixMs), works_now: bool) -> Option<UsageGap> {
        let worked = self.worked.is_some_and(|(first, last)| first < ends && (works_now || last >= begins));
        let here = self.mark;
        if !worked {
            return None;
        }
        match self.said {
            Some(Said::Fits { complete_to })
                if complete_to >= ends || self.has_rested_by(complete_to, works_now) =>
            {
                None
            }
            Some(Said::Fits { complete_to }) => {
                Some(UsageGap::Unsaid { complete_to: Some(complete_to), here })
            }
            Some(Said::Differs { sent, here }) => Some(UsageGap::Differs { sent, here }),
            None => Some(UsageGap::Unsaid { complete_to: None, here }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seed: u64, from_ms: u64) -> UsageEvent {
        let attempt = AttemptId::generate(&mut spillway_types::SequentialIds::new(seed));
        UsageEvent { attempt, rank: 0, from_ms, to_ms: from_ms + 10, ended: false }
    }

    fn marked(events: &[(u64, UsageEvent)]) -> UsageMark {
        let mut mark = UsageMark::begin(4);
        events.iter().for_each(|(number, event)| assert_eq!(mark.take(*number, event), Taken::New));
        mark
    }

    #[test]
    fn an_event_counts_once_and_every_field_of_it() {
        let events = [(5, event(1, 0)), (7, event(2, 0)), (8, event(1, 10))];
        let mut mark = marked(&events);
        assert_eq!((mark.count, mark.range, mark.last()), (3, Some((5, 8)), 8));
        let before = mark;
        for (number, event) in events.iter().chain(&[(8, event(9, 99)), (3, event(9, 99))]) {
            assert_eq!(mark.take(*number, event), Taken::Known);
        }
        assert_eq!(mark, before, "whatever it says now");
        let [first, second, third] = events;
        let other = |change: UsageEvent| marked(&[first, (7, change), third]);
        for change in [
            UsageEvent { attempt: first.1.attempt, ..second.1 },
            UsageEvent { rank: 1, ..second.1 },
            UsageEvent { from_ms: 1, ..second.1 },
            UsageEvent { to_ms: 11, ..second.1 },
            UsageEvent { ended: true, ..second.1 },
        ] {
            assert_ne!(other(change), before, "{change:?}");
        }
        assert_ne!(marked(&[first, (6, second.1), third]), before);
        assert_ne!(marked(&[first, third]), before);
        assert_eq!(UsageMark::begin(4).last(), 4);
        assert_eq!(UsageMark::begin(4).to_string(), "no usage event behind number 4");
        assert!(before.to_string().starts_with("3 usage events, numbers 5 to 8, SHA-256 "), "{before}");
    }

    const MARCH: (UnixMs, UnixMs) = (UnixMs(1_772_323_200_000), UnixMs(1_775_001_600_000));

    #[test]
    fn the_gate_opens_for_who_had_no_work_or_has_said_all() {
        let mut usage = NodeUsage::default();
        assert_eq!(usage.gap(MARCH, false), None, "it never worked");
        usage.note_work(MARCH.1);
        assert_eq!(usage.gap(MARCH, true), None, "it worked later only");
        usage.worked = Some((UnixMs(5), UnixMs(MARCH.0.0 - 1)));
        assert_eq!(usage.gap(MARCH, false), None, "it worked before only");
        let unsaid = |complete_to| Some(UsageGap::Unsaid { complete_to, here: UsageMark::default() });
        assert_eq!(usage.gap(MARCH, true), unsaid(None), "what it has now may be from then");
        usage.note_work(MARCH.0);
        assert_eq!(usage.gap(MARCH, false), unsaid(None));
        let early = UnixMs(MARCH.1.0 - 1);
        usage.hear(usage.mark, early);
        assert_eq!(usage.gap(MARCH, true), unsaid(Some(early)));
        assert_eq!(usage.gap(MARCH, false), None, "it rests, and all it used is here");
        usage.note_work(MARCH.1);
        assert_eq!(usage.gap(MARCH, false), unsaid(Some(early)), "it has worked since");
        usage.hear(usage.mark, MARCH.1);
        assert_eq!(usage.gap(MARCH, false), None);
        usage.hear(UsageMark::begin(7), MARCH.1);
        let error = usage.gap(MARCH, false).unwrap();
        assert!(matches!(error, UsageGap::Differs { .. }), "{error}");
        assert!(error.to_string().contains("sent no usage event behind number 7, and here were"), "{error}");
        usage.begin(9);
        assert_eq!(
            usage.gap(MARCH, false).unwrap(),
            UsageGap::Unsaid { complete_to: None, here: UsageMark::begin(9) }
        );
    }

    #[test]
    fn a_mark_begins_anew_where_the_two_sides_have_not_the_same() {
        let usage = NodeUsage { mark: UsageMark::begin(5), ..NodeUsage::default() };
        for (next, after, acked, anew) in [
            (10, 5, 7, None),
            (1, 0, 7, Some(7)),
            (7, 5, 7, Some(7)),
            (1, 0, 5, None),
            (10, 9, 7, Some(9)),
            (10, 3, 7, Some(7)),
        ] {
            assert_eq!(usage.anew(next, after, acked), anew, "{next} {after} {acked}");
        }
    }

    #[test]
    fn only_the_first_word_after_a_months_end_is_news_and_the_first_that_differs() {
        let (zone, mut usage) = (Zone::utc(), NodeUsage::default());
        usage.mark.take(3, &event(1, 0));
        let mark = usage.mark;
        let news = |usage: &NodeUsage, at| usage.is_news(&mark, at, (3, true), &zone);
        assert!(!news(&usage, MARCH.1), "it never worked");
        usage.note_work(MARCH.0);
        assert!(!news(&usage, UnixMs(MARCH.1.0 - 1)) && news(&usage, MARCH.1));
        assert!(!usage.is_news(&mark, MARCH.1, (2, true), &zone), "the last of it has not arrived");
        let rests = |usage: &NodeUsage, at| usage.is_news(&mark, UnixMs(at), (3, false), &zone);
        assert!(!rests(&usage, MARCH.0.0 - 1) && rests(&usage, MARCH.0.0));
        usage.hear(mark, MARCH.0);
        assert!(!rests(&usage, MARCH.0.0 + 5), "once");
        usage.note_work(UnixMs(MARCH.0.0 + 3));
        assert!(rests(&usage, MARCH.0.0 + 5), "it has worked since");
        usage.hear(mark, MARCH.1);
        assert!(!news(&usage, UnixMs(MARCH.1.0 + 86_400_000)), "April has not ended");
        let other = UsageMark::begin(1);
        assert!(usage.is_news(&other, MARCH.0, (3, true), &zone));
        usage.hear(other, MARCH.0);
        assert!(!usage.is_news(&other, UnixMs(i64::MAX / 2), (3, false), &zone), "once");
        usage.begin(3);
        assert_eq!((usage.count(), usage.earlier.marks, usage.mark.count), (1, 1, 0));
        assert!(
            usage.is_news(&UsageMark::begin(3), MARCH.1, (3, true), &zone),
            "nothing was said of the new mark"
        );
    }
}
