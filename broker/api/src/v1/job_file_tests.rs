//! Reading job files: what is refused, and with which words.

use super::*;

/// Parses a file that must be refused, and gives line, field, value and hint.
fn refusal(text: &str) -> JobFileError {
    JobFile::parse_yaml(text).expect_err(text)
}

#[test]
fn a_full_file_is_read() {
    let file = JobFile::parse_yaml(FULL).expect("a good file");
    assert_eq!(
        file.run,
        Some(Run::Program(vec!["python".into(), "train.py".into(), "010".into(), "yes".into()]))
    );
    assert_eq!(file.env.get("DEBUG").map(String::as_str), Some("1"));
    assert_eq!(file.env.get("ANSWER").map(String::as_str), Some("yes"));
    let resources = file.resources.clone().expect("resources");
    assert_eq!(resources.gpus, Some("H100:8".into()));
    assert_eq!(resources.cpus, Some("0.5".into()));
    let json = serde_json::to_vec(&file).expect("json");
    assert_eq!(crate::parse::json::<JobFile>(&json), Ok(file));
}

const FULL: &str = "
name: train
group: vision
run: [python, train.py, 010, yes]
image: nvcr.io/nvidia/pytorch:25.01-py3
resources:
  gpus: H100:8
  cpus: 0.5
  memory: 32GB
nodes: 2
time_limit: 2h
expected: 90m
where:
  allow: [dc, eu-west]
  prefer: [dc]
  residency: [eu]
  max_price: 25.00
  max_wait: 30m
  spot: allow
checkpoint: {signal: SIGUSR1, grace: 60s}
retry: {max_attempts: 5, on_loss: true, on_failure: false}
env: {DEBUG: 1, ANSWER: yes}
lease: 30s
";

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let error = refusal("run: a\nresources:\n  gpu: 8\n");
    assert_eq!(error.line, Some(3));
    assert_eq!(error.field.as_deref(), Some("resources.gpu"));
    assert_eq!(error.hint.as_deref(), Some("did you mean `gpus`?"));
    assert_eq!(error.to_string(), "line 3: unknown field `gpu`");
    let error = refusal("run: a\nbanana: 1\n");
    assert_eq!((error.line, error.field.as_deref()), (Some(2), Some("banana")));
    assert!(error.hint.expect("hint").contains("time_limit"));
}

#[test]
fn a_wrong_type_names_field_and_line() {
    for (text, line, field, value) in [
        ("run: a\nnodes: two\n", 2, "nodes", "two"),
        ("run: a\nnodes: -1 # less\n", 2, "nodes", "-1"),
        ("run: a\nresources: 8\n", 2, "resources", "8"),
        ("run: a\nresources:\n  gpus: [1]\n", 3, "resources.gpus", "[1]"),
        ("run: {a: b}\n", 1, "run", "{a: b}"),
        ("run: a\nretry:\n  on_loss: maybe\n", 3, "retry.on_loss", "maybe"),
        ("run: a\nwhere:\n  allow: dc\n", 3, "where.allow", "dc"),
        ("run: a\nname: {}\n", 2, "name", "{}"),
    ] {
        let error = refusal(text);
        assert_eq!(error.line, Some(line), "{text}: {error:?}");
        assert_eq!(error.field.as_deref(), Some(field), "{text}: {error:?}");
        assert_eq!(error.value.as_deref(), Some(value), "{text}: {error:?}");
        assert!(!error.problem.contains("u32"), "{error:?}");
    }
}

#[test]
fn what_is_not_yaml_or_not_one_job_is_refused() {
    for text in
        ["run: [a", "- a\n- b\n", "run: a\nrun: b\n", "run: a\n---\nrun: b\n", "run: *nowhere\n", "\u{0}"]
    {
        let error = refusal(text);
        assert!(!error.problem.is_empty() && error.problem.len() < 500, "{text:?}: {error:?}");
    }
}

#[test]
fn the_size_limit_holds_at_its_edge() {
    let of_size = |bytes: usize| {
        let head = "run: a\n#";
        format!("{head}{}", "x".repeat(bytes - head.len()))
    };
    assert!(JobFile::parse_yaml(&of_size(MAX_JOB_FILE)).is_ok());
    assert_eq!(refusal(&of_size(MAX_JOB_FILE + 1)).code, ErrorCode::TooLarge);
    let error = refusal(&of_size(10 << 20));
    assert!(error.problem.contains("10485760 bytes") && error.problem.contains("1048576"), "{error}");
}

#[test]
fn bombs_are_refused() {
    let deep = format!("run: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut laughs = String::from("env: &a {x: lol}\n");
    for (from, to) in
        ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(["b", "c", "d", "e", "f", "g", "h", "i"])
    {
        laughs.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(", ")));
    }
    let aliases = format!("name: &a x\nrun: [{}]\n", vec!["*a"; 5000].join(","));
    for bomb in [deep, laughs, aliases] {
        let error = refusal(&bomb);
        assert!(error.problem.len() < 500, "{error:?}");
    }
    assert_eq!(
        refusal(&format!("name: &a x\nrun: [{}]\n", vec!["*a"; 5000].join(","))).code,
        ErrorCode::TooLarge
    );
}
