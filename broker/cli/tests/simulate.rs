//! `spillway simulate` as a whole: streams, files, exit codes, and going on after an interruption.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn command(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.arg("simulate").args(words.split_whitespace()).env_clear().current_dir(dir);
    command
}

fn simulate(dir: &Path, words: &str) -> Output {
    command(dir, words).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn a_comparison_gives_a_table_json_and_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let words = "--generate poisson --jobs 80 --nodes 2 --policy no-wait --policy starburst --placements out.csv --svg out.svg";
    let ended = simulate(dir.path(), words);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let table = text(&ended.stdout);
    assert!(
        table.starts_with("POLICY") && table.contains("starburst") && table.contains("80 jobs"),
        "{table}"
    );
    assert_eq!(text(&ended.stderr), "");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(read("out-no-wait.csv").lines().count(), 81);
    assert!(read("out-starburst.csv").starts_with("job_id,place,start_hr,nodes\n"));
    assert!(read("out.svg").starts_with("<svg ") && read("out.svg").ends_with("</svg>\n"));

    let again = simulate(dir.path(), &format!("{words} -o json"));
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).expect("json");
    assert_eq!((&json["jobs"], &json["gpus"]), (&80.into(), &16.into()));
    assert_eq!(json["policies"][0]["policy"], "no-wait");
    assert_eq!(json["policies"][0]["avg_wait_hours"], 0.0);
}

#[test]
fn wrong_input_is_code_2_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("bad.csv", "job_id,group,arrival_hr,runtime_hr,gpus\n1,a,0,1,0\n");
    write("bad.toml", "[[sites]]\nnme = 'x'\n");
    for (words, says) in [
        ("--nodes 4", "--trace"),
        ("--generate poisson", "--federation"),
        ("--generate poisson --nodes 0", "1 to 62500"),
        ("--generate poisson --nodes 4 --load -1", "must be a number from 0.001"),
        ("--generate poisson --nodes 4 --policy fifo", "plan-on-arrival"),
        ("--generate poisson --nodes 4 --policy easy --policy easy", "twice"),
        ("--generate poisson --nodes 4 --policy bad.csv", "does not parse"),
        ("--generate poisson --nodes 4 --svg no/such/place.svg", "cannot write"),
        ("--generate poisson --nodes 4 --placements .", "folder"),
        ("--generate poisson --nodes 4 --compute-wait x", "not a number"),
        ("--generate poisson --nodes 4 --warmup 250", "leaves nothing"),
        ("--generate poisson --nodes 4 --match-wait -1", "from 0"),
        ("--generate poisson --nodes 4 --noise nan", "from 0 to 5"),
        ("--generate bootstrap --nodes 4", "--bootstrap"),
        ("--generate poisson --nodes 4 --gpus-per-node 73", "1 to 72"),
        ("--generate poisson --federation bad.toml", "unknown field `nme`"),
        ("--trace bad.csv --nodes 4", "line 2, gpus: `0`"),
        ("--trace bad.csv --nodes 4 --jobs 3", "--generate"),
        ("--trace bad.csv --generate poisson --nodes 4", "cannot be used with"),
        ("--resume bad.csv", "not a state file"),
    ] {
        let ended = simulate(dir.path(), words);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
        assert_eq!(text(&ended.stdout), "");
    }
    assert_eq!(simulate(dir.path(), "--trace none.csv --nodes 4").status.code(), Some(1));
}

#[test]
fn an_interrupted_comparison_keeps_what_is_complete_and_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let words = "--generate poisson --jobs 1200 --load 1.5 --nodes 4 --policy no-wait --policy constant --policy starburst \
                 --policy easy --policy plan-on-arrival --svg out.svg --state kept.json";
    let mut child = command(dir.path(), words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // The state is written when the first policy is complete.
    let state = dir.path().join("kept.json");
    let mut polls = 0;
    while !state.exists() {
        polls += 1;
        assert!(
            polls < 60_000 && child.try_wait().expect("a status").is_none(),
            "no state after {polls} polls"
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let ended = child.wait_with_output().expect("it ends");
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("of 5 policies are complete") && said.contains("--resume kept.json"), "{said}");
    assert!(text(&ended.stdout).contains("no-wait"), "{}", text(&ended.stdout));

    let resumed = simulate(dir.path(), "--resume kept.json");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let all = simulate(dir.path(), &words.replace("--state kept.json", ""));
    assert_eq!(text(&resumed.stdout), text(&all.stdout));
    assert!(dir.path().join("out.svg").exists());
}
