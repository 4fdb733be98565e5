//! Whatever happens in whatever order, the federation keeps its invariants, and once all faults stop every job
//! ends, all money is settled and no machine is left.
//!
//! A case is a list of abstract choices. Each is resolved against what is there at that moment, so that most of
//! them mean something; proptest shrinks the list.

#[cfg(test)]
mod case;
#[cfg(test)]
mod choices;
#[cfg(test)]
mod ending;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use case::{Case, Manners};

/// Cases of each of the two tests.
const CASES: u32 = 512;

fn config() -> Config {
    Config { cases: CASES, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() }
}

fn play(manners: Manners, choices: &[(u8, u32, u32)]) -> Result<(), TestCaseError> {
    let mut case = Case::new(manners);
    for choice in choices {
        case.choose(*choice);
        let defects = case.defects();
        prop_assert!(defects.is_empty(), "after {choice:?}: {defects:#?}");
    }
    let left = case.end();
    prop_assert!(left.is_empty(), "at the end: {left:#?}");
    Ok(())
}

fn choices() -> impl Strategy<Value = Vec<(u8, u32, u32)>> {
    proptest::collection::vec(any::<(u8, u32, u32)>(), 1..70)
}

proptest! {
    #![proptest_config(config())]

    /// Nodes come and go, are copied and silent, clouds fail, people change everything; agents tell the truth.
    #[test]
    fn faults_break_nothing(choices in choices()) {
        play(Manners::Honest, &choices)?;
    }

    /// The same, and agents also lie about everything they can lie about.
    #[test]
    fn lies_break_nothing(choices in choices()) {
        play(Manners::Lying, &choices)?;
    }
}
