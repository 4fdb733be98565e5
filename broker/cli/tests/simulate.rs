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

const FEDERATION: &str = r#"
[[sites]]
name = "home"
[[sites.pools]]
name = "dgx"
[[sites.pools.nodes]]
count = 1
model = "H100"
gpus = 8
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5-spot"
model = "H100"
gpus = 8
price = "20.00"
boot = "4m"
market = "spot"
availability = "spot.csv"
[[clouds.offers]]
instance_type = "p5"
model = "H100"
gpus = 8
price = "50.00"
boot = "4m"
"#;

#[test]
fn two_federations_are_compared_in_one_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("now.toml", FEDERATION);
    write("more.toml", &FEDERATION.replace("count = 1", "count = 3"));
    write("spot.csv", "from_hr,available\n0,2\n2,0\n3,2\n");
    let words = "--generate poisson --jobs 60 --load 1.5 --federation now.toml --federation more.toml \
                 --policy no-wait --policy plan-on-arrival --placements out.csv --svg out.svg --state kept.json";
    let ended = simulate(dir.path(), words);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let table = text(&ended.stdout);
    assert!(table.contains("8 GPUs in now, 24 GPUs in more on-prem"), "{table}");
    for name in ["no-wait @ now", "no-wait @ more", "plan-on-arrival @ now", "plan-on-arrival @ more"] {
        assert!(table.contains(name), "{table}");
        assert!(dir.path().join(format!("out-{}.csv", name.replace(" @ ", "-"))).exists(), "{name}");
    }
    assert!(table.contains("taken back by providers") && table.contains("on demand and"), "{table}");
    let svg = std::fs::read_to_string(dir.path().join("out.svg")).expect("a chart");
    assert!(svg.contains("8 GPUs on-prem") && svg.contains("24 GPUs on-prem"));
    let again = simulate(dir.path(), "--resume kept.json -o json");
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).expect("json");
    assert_eq!(json["federations"][1], serde_json::json!({ "name": "more", "gpus": 24 }));
    let [now, more] = [0, 2].map(|at| json["policies"][at]["cloud_micros"].as_i64().expect("a sum"));
    assert!(json["policies"][0]["spot_micros"].as_i64() > Some(0) && more < now, "{now} {more}");
    assert_eq!(json["policies"][0]["broken_bounds"], 0);
}

#[test]
fn the_worked_answer_of_the_example_is_what_comes_out() {
    let example = include_str!("../../sim/examples/federation.toml");
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("now.toml", example);
    write("more.toml", &example.replacen("\ncount = 4", "\ncount = 6", 1));
    let words = "--generate poisson --jobs 700 --load 1.1 --policy plan-on-arrival";
    assert!(example.contains(words));
    let ended = simulate(dir.path(), &format!("{words} --federation now.toml --federation more.toml"));
    let table = text(&ended.stdout);
    let rows: Vec<&str> =
        table.lines().filter(|line| line.starts_with("plan-on-arrival @ ")).take(2).collect();
    let [now, more] = rows[..] else { panic!("{table}") };
    for (row, figures) in [(now, ["873.84", "2m08s"]), (more, ["38.19", "13s"])] {
        assert!(figures.iter().all(|figure| row.contains(figure) && example.contains(figure)), "{row}");
    }
}

#[test]
fn wrong_input_is_code_2_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("bad.csv", "job_id,group,arrival_hr,runtime_hr,gpus\n1,a,0,1,0\n");
    write("bad.toml", "[[sites]]\nnme = 'x'\n");
    write("lost.toml", &FEDERATION.replace("spot.csv", "none.csv"));
    write("ok.toml", &FEDERATION.replace("availability = \"spot.csv\"", ""));
    write("late.csv", "job_id,group,arrival_hr,runtime_hr,gpus,deadline_hr\n1,a,0,1,1,soon\n");
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
        (
            "--generate poisson --federation lost.toml",
            "clouds[0].offers[0].availability: `none.csv`: cannot read",
        ),
        ("--generate poisson --federation ok.toml --federation ok.toml", "given twice"),
        ("--generate poisson --federation ok.toml --nodes 4", "cannot be used with"),
        ("--trace late.csv --nodes 4", "line 2, deadline_hr: `soon` is not a number"),
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
