//! The policies that are shipped, by name: a good place to start from, and the same words in every installation.
//!
//! Each is a file under `policies/examples` that tells its whole story in comments. To add one, put its file there and
//! its line into [`NAMED`]; the tests hold each to what makes it different.

use crate::{Policy, PolicyError};

/// A policy that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// What it is asked for by: `cost-first`.
    pub name: &'static str,
    /// The file, comments included.
    pub text: &'static str,
}

macro_rules! named {
    ($($name:literal),+ $(,)?) => {
        /// Every policy that is shipped, the default first.
        pub const NAMED: &[Named] =
            &[$(Named { name: $name, text: include_str!(concat!("../examples/", $name, ".toml")) }),+];
    };
}

named!["default", "efficient", "cost-first", "deadline", "research-lab", "on-prem-only"];

/// The shipped policy of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Named> {
    NAMED.iter().find(|known| known.name == name)
}

impl Named {
    /// The policy.
    ///
    /// # Errors
    /// [`PolicyError`] as for every file; never for one that is shipped.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::from_toml(self.text)
    }

    /// What it is for, in one sentence: the first comment of its file.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        first.split_once(": ").map_or(first, |(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{job, node, offer, snapshot};
    use crate::{QueuedJob, Sharing, Target, plan};

    /// In minutes.
    const HOUR: i64 = 60;

    /// What becomes of a job of eight GPUs for an hour, while the only node here is busy for so many minutes and
    /// a cloud would take it at once for 84 units of money.
    fn outcome(name: &str, class: &str, minutes: i64) -> &'static str {
        let mut all =
            snapshot().node(node(1, "H100:8").busy(8, minutes * 60)).offer(offer("p5", "H100:8", 80));
        all.policy = named(name).unwrap().policy().unwrap();
        let class = (!class.is_empty()).then(|| class.parse().unwrap());
        assert!(
            class.as_ref().is_none_or(|class| all.policy.classes.contains_key(class)),
            "{name} has no class {class:?}"
        );
        let made = plan(&all.job(QueuedJob { class, ..job(1, "H100:8") }));
        match made.decisions.first().map(|decision| &decision.target) {
            None => "waits",
            Some(Target::Launch { .. }) => "rents",
            Some(Target::Nodes { .. }) => "runs here",
        }
    }

    #[test]
    fn each_policy_differs_in_what_it_waits_for() {
        for (name, class, waits, rents) in [
            ("default", "", 5 * HOUR, Some(6 * HOUR)),
            ("cost-first", "", 41 * HOUR, Some(45 * HOUR)),
            ("cost-first", "interactive", 55, Some(65)),
            ("cost-first", "batch", 300 * HOUR, None),
            ("deadline", "", 80, Some(2 * HOUR)),
            ("deadline", "urgent", 14, Some(16)),
            ("deadline", "background", 70 * HOUR, None),
            ("research-lab", "", 13 * HOUR, Some(16 * HOUR)),
            ("research-lab", "interactive", 25, Some(35)),
            ("research-lab", "paper", 80, Some(2 * HOUR)),
            ("research-lab", "sweep", 160 * HOUR, None),
            ("on-prem-only", "", 300 * HOUR, None),
            ("on-prem-only", "interactive", 300 * HOUR, None),
            ("on-prem-only", "batch", 300 * HOUR, None),
        ] {
            assert_eq!(outcome(name, class, waits), "waits", "{name} {class} {waits} min");
            if let Some(minutes) = rents {
                assert_eq!(outcome(name, class, minutes), "rents", "{name} {class} {minutes} min");
            }
        }
    }

    #[test]
    fn groups_take_turns_save_where_only_cost_counts() {
        for known in NAMED {
            let efficient = ["cost-first", "efficient"].contains(&known.name);
            let wanted = if efficient { Sharing::Efficient } else { Sharing::Fair };
            assert_eq!(known.policy().unwrap().sharing, wanted, "{}", known.name);
        }
    }

    #[test]
    fn old_cards_are_slow_in_the_lab() {
        let lab = named("research-lab").unwrap().policy().unwrap();
        assert_eq!(lab.speed_milli(&"V100".parse().unwrap()), Some(500));
    }

    #[test]
    fn every_example_has_its_name_and_its_summary() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let file =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let there: BTreeSet<String> = std::fs::read_dir(folder).unwrap().map(file).collect();
        let known: BTreeSet<String> = NAMED.iter().map(|known| format!("{}.toml", known.name)).collect();
        assert_eq!(there, known);
        for known in NAMED {
            let summary = known.summary();
            assert!(summary.ends_with('.') && summary.len() < 100, "{}: {summary}", known.name);
        }
        assert_eq!(named("cost-first").unwrap().summary().split(',').count(), 2);
        assert_eq!(named("cheap"), None);
    }
}
