//! The policy of the settings: written out as `[policy]`, or named as `policy = "cost-first"`, a file or the name of a
//! shipped one. A file wins over a name.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use spillway_policies::{NAMED, Policy, named};

use super::{SettingsError, wrong};

/// What the settings say.
#[derive(Debug)]
pub(super) enum PolicyEntry {
    /// The policy itself.
    Inline(Box<Policy>),
    /// A file, or the name of a shipped policy.
    Word(String),
}

impl Default for PolicyEntry {
    fn default() -> Self {
        Self::Inline(Box::default())
    }
}

impl PolicyEntry {
    /// The policy. `path` is the settings file; files are looked for in its folder `base`.
    pub(super) fn resolve(self, path: &Path, base: &Path) -> Result<Policy, SettingsError> {
        let word = match self {
            Self::Inline(policy) => return policy.checked().map_err(|error| wrong(path, error)),
            Self::Word(word) => word,
        };
        let file = base.join(&word);
        if file.is_file() {
            let text = fs::read_to_string(&file)
                .map_err(|source| SettingsError::Read { path: file.clone(), source })?;
            return Policy::from_toml(&text).map_err(|error| wrong(&file, error));
        }
        let Some(known) = named(&word) else {
            let names: Vec<&str> = NAMED.iter().map(|known| known.name).collect();
            let problem = format!(
                "policy = `{word}`: there is no such file, and those with names are {}",
                names.join(", ")
            );
            return Err(wrong(path, problem));
        };
        known.policy().map_err(|error| wrong(path, error))
    }
}

impl<'de> Deserialize<'de> for PolicyEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PolicyEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy, or the name of one")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<PolicyEntry, E> {
                Ok(PolicyEntry::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PolicyEntry, A::Error> {
                let policy = Policy::deserialize(MapAccessDeserializer::new(map))?;
                Ok(PolicyEntry::Inline(Box::new(policy)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, Settings};
    use super::*;
    use spillway_types::HourlyRate;

    fn written(text: &str, file: Option<(&str, &str)>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("broker.toml", text)].into_iter().chain(file) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn resolve(text: &str, file: Option<(&str, &str)>) -> Result<HourlyRate, String> {
        let folder = written(text, file);
        let settings = Settings::resolve(Some(&folder.path().join("broker.toml")), Overrides::default());
        settings.map(|settings| settings.policy.wait_hour_price).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_is_written_out_or_named_and_a_file_wins() {
        let own = Some(("cost-first", "wait_hour_price = '7.00'"));
        for (text, file, price) in [
            ("", None, 15),
            ("[policy]\nwait_hour_price = '4.00'", None, 4),
            ("policy = 'cost-first'", None, 2),
            ("policy = 'cost-first'", own, 7),
        ] {
            assert_eq!(resolve(text, file), Ok(HourlyRate(price * 1_000_000)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, file, says) in [
            ("policy = 'cheap'", None, "those with names are default, efficient, cost-first, deadline"),
            ("policy = 3", None, "a policy, or the name of one"),
            ("[policy]\ncolour = 1", None, "unknown field `colour`"),
            ("[policy]\nmax_jobs = 0", None, "max_jobs = 0: must be at least 1"),
            ("policy = 'own.toml'", Some(("own.toml", "max_jobs = 0")), "own.toml: max_jobs = 0"),
        ] {
            let error = resolve(text, file).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
