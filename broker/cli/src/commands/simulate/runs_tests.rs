//! What was finished is not done again, and an interruption keeps what is complete.

use clap::Parser;

use super::*;
use crate::commands::simulate::Words;

const COMMAND: &str = "--generate poisson --jobs 60 --load 1.5 --nodes 1 --policy no-wait --policy starburst";

fn plan(words: &str) -> Plan {
    let words = Words::try_parse_from(words.split(' ')).expect("flags");
    Plan::resolve(&words.args).expect("a plan")
}

fn complete(ending: Ending) -> Vec<Finished> {
    match ending {
        Ending::Complete(finished) => finished,
        Ending::Interrupted(finished) => panic!("interrupted after {}", finished.len()),
    }
}

/// Whoever asks to end before it begins gets only what was kept.
fn asked() -> Stop {
    let stop = Stop::default();
    stop.ask();
    stop
}

#[test]
fn finished_runs_are_kept_and_not_repeated() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.json");
    let policy = dir.path().join("own.toml");
    std::fs::write(&policy, "").expect("a policy");
    let matched = format!("{COMMAND} --policy {} --match-wait 0.05", policy.display());
    for words in [COMMAND, &matched] {
        let plan = plan(words);
        let first = complete(run(&plan, &mut Kept::at(&path), &Stop::default()).expect("runs"));
        // Nothing is left to be run, so nobody notices that somebody asked to end.
        let again = complete(run(&plan, &mut Kept::read(&path).expect("a state"), &asked()).expect("runs"));
        assert_eq!(first.len(), plan.entries.len());
        for (first, again) in first.iter().zip(&again) {
            assert_eq!((&first.policy, &first.matched), (&again.policy, &again.matched));
            assert_eq!((&first.metrics, first.outcome()), (&again.metrics, again.outcome()));
        }
        let wait = first.last().map(|run| run.metrics.avg_wait_hours).expect("a run");
        assert!(wait <= 0.05 || !words.contains("--match-wait"), "{wait}");
    }
}

#[test]
fn other_inputs_are_other_runs() {
    let mut kept = Kept::default();
    complete(run(&plan(COMMAND), &mut kept, &Stop::default()).expect("runs"));
    for other in [" --seed 2", " --warmup 5", " --noise 0.3", " --gpus-per-node 4"] {
        let ending = run(&plan(&format!("{COMMAND}{other}")), &mut kept, &asked()).expect("ends");
        assert!(matches!(ending, Ending::Interrupted(finished) if finished.is_empty()), "{other}");
    }
    // The one that depends on the setting is new, the one before it is not.
    let plan = plan(&format!("{COMMAND} --compute-wait 0.5 --policy constant"));
    let ending = run(&plan, &mut kept, &asked()).expect("ends");
    assert!(matches!(ending, Ending::Interrupted(finished) if finished.is_empty()));
}

#[test]
fn a_state_of_another_form_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.json");
    for (text, says) in [
        ("nonsense", "not a state file"),
        (r#"{"form":9,"words":[],"runs":{}}"#, "has form 9"),
        (r#"{"form":2,"words":[],"runs":{},"more":1}"#, "more"),
    ] {
        std::fs::write(&path, text).expect("a file");
        let failure = Kept::read(&path).expect_err("refused");
        assert!(failure.render().contains(says), "{}", failure.render());
    }
}
