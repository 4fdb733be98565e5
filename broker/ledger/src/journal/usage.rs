//! Usage events by source and number, and the manifests that say when all of a period have arrived.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::UnixMs;

use super::chain::Digest;
use crate::calendar::Period;

/// One event as its source sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent<'a> {
    /// Who sent it: a site, or a node of one.
    pub source: &'a str,
    /// Its number there; they count up from 1 without a gap.
    pub number: u64,
    /// When what it says was so.
    pub at: UnixMs,
    /// What it says, word for word.
    pub payload: &'a [u8],
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new: charge it.
    New,
    /// It was taken before: charge nothing.
    Known,
}

/// The number was used for something else. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "usage event {number} of {source_name} was taken with another content (SHA-256 {known}, now {given}): a number is \
     good for one event, for ever"
)]
pub struct UsageConflict {
    /// The source.
    pub source_name: String,
    /// The number.
    pub number: u64,
    /// The payload's hash as it was taken.
    pub known: Digest,
    /// The one that came now.
    pub given: Digest,
}

/// What a source says it sent of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The source.
    pub source: String,
    /// The period.
    pub period: Period,
    /// How many events.
    pub count: u64,
    /// The first and the last number; none where there was no event.
    pub range: Option<(u64, u64)>,
    /// SHA-256 over the number, the instant and the payload's hash of each, in order.
    pub hash: Digest,
}

/// Why what arrived is not what a source says it sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It sent events, and did not say which.
    #[error("source {source_name} has sent {count} events and no manifest: have it send one")]
    NoManifest {
        /// The source.
        source_name: String,
        /// How many events are here.
        count: u64,
    },
    /// Events are missing, or are here and are not in the manifest.
    #[error(
        "source {source_name} says it sent {said} events, numbers {range:?}, and {here} are here{}",
        missing.map(|number| format!("; the first that is missing is number {number}")).unwrap_or_default()
    )]
    Count {
        /// The source.
        source_name: String,
        /// How many it says.
        said: u64,
        /// The first and the last number it says.
        range: Option<(u64, u64)>,
        /// How many are here.
        here: u64,
        /// The first number of the range that never arrived.
        missing: Option<u64>,
    },
    /// As many as it says, and not the same ones.
    #[error(
        "the {count} events of source {source_name} are not those it sent: SHA-256 {here}, it says {said}"
    )]
    Hash {
        /// The source.
        source_name: String,
        /// How many.
        count: u64,
        /// What it says.
        said: Digest,
        /// What is here.
        here: Digest,
    },
    /// For another period.
    #[error("the manifest of source {source_name} is for period {given}, not {wanted}")]
    Period {
        /// The source.
        source_name: String,
        /// What it is for.
        given: Period,
        /// What was wanted.
        wanted: Period,
    },
}

/// Every event that was taken, by source and number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageEvents(BTreeMap<String, BTreeMap<u64, (UnixMs, Digest)>>);

impl UsageEvents {
    /// Takes an event; the order does not matter.
    ///
    /// # Errors
    /// [`UsageConflict`] where its number was used for another content or instant.
    pub fn take(&mut self, event: &UsageEvent<'_>) -> Result<Taken, UsageConflict> {
        let given = Digest::of(event.payload);
        let known = self.0.get(event.source).and_then(|events| events.get(&event.number));
        if let Some((at, known)) = known {
            if (*at, *known) == (event.at, given) {
                return Ok(Taken::Known);
            }
            let (source_name, number, known) = (event.source.to_owned(), event.number, *known);
            return Err(UsageConflict { source_name, number, known, given });
        }
        self.0.entry(event.source.to_owned()).or_default().insert(event.number, (event.at, given));
        Ok(Taken::New)
    }

    /// What the source's manifest of a period must be, by what is here. A period is from its first instant to the
    /// first after it.
    #[must_use]
    pub fn manifest(&self, source: &str, period: Period, span: (UnixMs, UnixMs)) -> Manifest {
        let events = self.0.get(source).into_iter().flatten();
        let inside = events.filter(|(_, (at, _))| *at >= span.0 && *at < span.1);
        let (mut count, mut range, mut fields) = (0, None, Vec::new());
        for (number, (at, digest)) in inside {
            count += 1;
            range = Some((range.map_or(*number, |(first, _)| first), *number));
            fields.extend([
                number.to_be_bytes().to_vec(),
                at.0.to_be_bytes().to_vec(),
                digest.bytes().to_vec(),
            ]);
        }
        let hash = Digest::of_fields(fields.iter().map(Vec::as_slice));
        Manifest { source: source.to_owned(), period, count, range, hash }
    }

    /// Whether every source that has sent events of the period says that these are all.
    ///
    /// # Errors
    /// [`ManifestError`] of the first source, by name, that is not complete.
    pub fn check(
        &self,
        period: Period,
        span: (UnixMs, UnixMs),
        manifests: &[Manifest],
    ) -> Result<(), ManifestError> {
        let said: BTreeMap<&str, &Manifest> = manifests.iter().map(|it| (it.source.as_str(), it)).collect();
        let sources = self.0.keys().map(String::as_str).chain(said.keys().copied());
        let sources: std::collections::BTreeSet<&str> = sources.collect();
        sources.into_iter().try_for_each(|source| {
            let here = self.manifest(source, period, span);
            match said.get(source) {
                Some(said) => self.compare(said, &here),
                None if here.count == 0 => Ok(()),
                None => Err(ManifestError::NoManifest { source_name: source.to_owned(), count: here.count }),
            }
        })
    }

    fn compare(&self, said: &Manifest, here: &Manifest) -> Result<(), ManifestError> {
        let source_name = here.source.clone();
        if said.period != here.period {
            return Err(ManifestError::Period { source_name, given: said.period, wanted: here.period });
        }
        if (said.count, said.range) != (here.count, here.range) {
            let events = self.0.get(&here.source);
            let arrived = |number: &u64| events.is_some_and(|events| events.contains_key(number));
            let missing = said.range.and_then(|(first, last)| (first..=last).find(|number| !arrived(number)));
            let (said, range, here) = (said.count, said.range, here.count);
            return Err(ManifestError::Count { source_name, said, range, here, missing });
        }
        if said.hash != here.hash {
            return Err(ManifestError::Hash {
                source_name,
                count: here.count,
                said: said.hash,
                here: here.hash,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &'static str, number: u64, at: i64, payload: &'static str) -> UsageEvent<'static> {
        UsageEvent { source, number, at: UnixMs(at), payload: payload.as_bytes() }
    }

    const SPAN: (UnixMs, UnixMs) = (UnixMs(0), UnixMs(100));

    fn period() -> Period {
        "1970-01".parse().unwrap()
    }

    fn events() -> UsageEvents {
        let mut events = UsageEvents::default();
        for number in [3, 1, 2] {
            let at = i64::try_from(number).unwrap() * 10;
            assert_eq!(events.take(&event("seoul", number, at, "x")), Ok(Taken::New));
        }
        events
    }

    #[test]
    fn an_event_counts_once_and_its_number_is_its_own() {
        let mut events = events();
        let before = events.clone();
        assert_eq!(events.take(&event("seoul", 2, 20, "x")), Ok(Taken::Known));
        let error = events.take(&event("seoul", 2, 20, "y")).unwrap_err();
        assert!(error.to_string().contains("event 2 of seoul was taken with another content"), "{error}");
        assert!(events.take(&event("seoul", 2, 21, "x")).is_err(), "the instant is content too");
        assert_eq!(events, before);
        assert_eq!(events.take(&event("busan", 2, 20, "y")), Ok(Taken::New));
    }

    #[test]
    fn a_manifest_gates_until_everything_is_here() {
        let mut events = events();
        let right = events.manifest("seoul", period(), SPAN);
        assert_eq!((right.count, right.range), (3, Some((1, 3))));
        let check = |events: &UsageEvents, manifests: &[Manifest]| events.check(period(), SPAN, manifests);
        assert_eq!(check(&events, std::slice::from_ref(&right)), Ok(()));
        assert!(matches!(check(&events, &[]), Err(ManifestError::NoManifest { count: 3, .. })));
        let five = Manifest { count: 5, range: Some((1, 5)), ..right.clone() };
        let error = check(&events, &[five]).unwrap_err().to_string();
        assert!(error.contains("sent 5 events") && error.contains("missing is number 4"), "{error}");
        let other = Manifest { hash: Digest::of(b"other"), ..right.clone() };
        assert!(matches!(check(&events, &[other]), Err(ManifestError::Hash { count: 3, .. })));
        let march = Manifest { period: "2026-03".parse().unwrap(), ..right.clone() };
        assert!(matches!(check(&events, &[march]), Err(ManifestError::Period { .. })));
        // An event of another period changes nothing; one more of this one does.
        events.take(&event("seoul", 4, 100, "x")).unwrap();
        assert_eq!(check(&events, std::slice::from_ref(&right)), Ok(()));
        events.take(&event("seoul", 5, 99, "x")).unwrap();
        assert!(matches!(
            check(&events, &[right]),
            Err(ManifestError::Count { said: 3, here: 4, missing: None, .. })
        ));
        // A source of which nothing arrived at all.
        let silent = Manifest {
            source: "tokyo".into(),
            period: period(),
            count: 1,
            range: Some((1, 1)),
            hash: Digest::default(),
        };
        let seoul = events.manifest("seoul", period(), SPAN);
        assert!(matches!(
            check(&events, &[seoul, silent]),
            Err(ManifestError::Count { missing: Some(1), .. })
        ));
    }
}
