//! From job files to jobs: defaults, and what is refused with which field, value and way out.

use super::*;

fn defaults() -> JobDefaults {
    JobDefaults { group: Some("vision".parse().expect("name")) }
}

fn spec(text: &str) -> JobSpec {
    JobFile::parse_yaml(text).expect(text).into_spec(&defaults()).expect(text)
}

#[test]
fn defaults_are_filled_in() {
    let plain = spec("run: /usr/bin/python train.py --fast\n");
    assert_eq!(plain.name, "python");
    assert_eq!(plain.command, ["sh", "-c", "/usr/bin/python train.py --fast"]);
    assert_eq!(plain.group.as_str(), "vision");
    assert_eq!(plain.time_limit, DurationMs::from_secs(3600));
    assert_eq!(plain.resources, Resources { gpus: None, cpus_milli: 1000, memory_mib: 1024 });
    assert_eq!((plain.nodes, plain.array, plain.lease), (1, None, DurationMs::from_secs(60)));
    assert_eq!((plain.checkpoint, plain.retry), (Checkpoint::default(), RetryPolicy::default()));
}

#[test]
fn resources_grow_with_accelerators() {
    for (gpus, cpus_milli, memory_mib) in [
        ("1", 2000, 8192),
        ("H100:8", 16_000, 65_536),
        ("A100:0.25", 1000, 2048),
        ("A100:0.01", 1000, 1024),
        ("mig-1g.10gb:2", 1000, 4096),
    ] {
        let resources = spec(&format!("run: a\nresources: {{gpus: '{gpus}'}}\n")).resources;
        assert_eq!((resources.cpus_milli, resources.memory_mib), (cpus_milli, memory_mib), "{gpus}");
    }
    let named = spec("run: a\nresources: {gpus: 2, cpus: 0.5, memory: 2TB}\n").resources;
    assert_eq!((named.cpus_milli, named.memory_mib), (500, 2 << 20));
}

#[test]
fn everything_a_file_says_arrives() {
    let spec = spec(
        "run: [a, b]\narray: 1-10000\nexpected: 5m\ndeadline: 2026-11-21T18:00:00Z\nclass: urgent\nwhere: {interconnect: same-domain, allow: [dc], residency: [eu], max_price: 2.5, max_wait: 10m, spot: allow}\n\
         checkpoint: {signal: usr1, grace: 1m}\nretry: {max_attempts: 1, on_loss: false}\n",
    );
    assert_eq!(spec.array, Some(ArrayRange { first: 1, last: 10_000 }));
    assert_eq!(spec.placement.max_price, Some(HourlyRate(2_500_000)));
    assert_eq!(spec.placement.max_wait, Some(DurationMs::from_secs(600)));
    assert_eq!(spec.placement.spot, Spot::Allow);
    assert_eq!(spec.placement.interconnect, Interconnect::SameDomain);
    assert_eq!(spec.deadline, Some("2026-11-21T18:00:00Z".parse().expect("a deadline")));
    assert_eq!(spec.class, Some("urgent".parse().expect("a class")));
    assert_eq!(spec.checkpoint, Checkpoint { signal: 10, grace: DurationMs::from_secs(60), every: None });
    assert_eq!(spec.retry, RetryPolicy { max_attempts: 1, on_loss: false, on_failure: false });
    assert_eq!(spec.command, ["a", "b"]);
}

#[test]
fn every_refusal_names_field_and_value_and_the_way_out() {
    for (line, field, value, says) in [
        ("resources: {gpus: 0}", "resources.gpus", "0", "leave `gpus` out"),
        ("deadline: tomorrow", "deadline", "tomorrow", "with its zone"),
        ("deadline: 0s", "deadline", "0s", "must be over 0"),
        ("class: Very Urgent", "class", "Very Urgent", "1 to 63 of a-z"),
        ("where: {interconnect: near}", "where.interconnect", "near", "`same-domain`"),
        ("resources: {gpus: 'H100:73'}", "resources.gpus", "H100:73", "use `nodes`"),
        ("resources: {gpus: -1}", "resources.gpus", "-1", "write `MODEL:COUNT`"),
        ("resources: {memory: 32}", "resources.memory", "32", "`32GB`"),
        ("resources: {memory: lots}", "resources.memory", "lots", "`32GB`"),
        ("resources: {cpus: 0}", "resources.cpus", "0", "over 0"),
        ("resources: {cpus: -2}", "resources.cpus", "-2", "`0.5`"),
        ("resources: {cpus: 0.0001}", "resources.cpus", "0.0001", "thousandths"),
        ("resources: {cpus: 4096}", "resources.cpus", "4096", "4096"),
        ("time_limit: -5m", "time_limit", "-5m", "negative"),
        ("time_limit: 90", "time_limit", "90", "`90s`"),
        ("time_limit: 0s", "time_limit", "0s", "`2h`"),
        ("expected: 2h", "expected", "2h", "within time_limit"),
        ("array: 5", "array", "5", "FIRST-LAST"),
        ("array: 9-1", "array", "9-1", "FIRST-LAST"),
        ("array: 0-1000000", "array", "0-1000000", "1,000,000"),
        ("nodes: 0", "nodes", "0", "1 to 1024"),
        ("group: No Group", "group", "No Group", "a-z"),
        ("name: ''", "name", "\"\"", "printable"),
        ("image: 'a b'", "image", "a b", "nvcr.io"),
        ("where: {allow: [A B]}", "where.allow", "A B", "a-z"),
        ("where: {max_price: -1}", "where.max_price", "-1", "`2.50/h`"),
        ("where: {spot: maybe}", "where.spot", "maybe", "`never` or `allow`"),
        ("where: {residency: ['']}", "where.residency", "", "spillway sites"),
        ("checkpoint: {signal: SIGUSR3}", "checkpoint.signal", "SIGUSR3", "SIGUSR1"),
        ("checkpoint: {signal: 0}", "checkpoint.signal", "0", "1 to 31"),
        ("checkpoint: {grace: 2h}", "checkpoint.grace", "2h", "1h"),
        ("retry: {max_attempts: 0}", "retry.max_attempts", "0", "1 to 100"),
        ("lease: 1s", "lease", "1s", "2s to 10m"),
        ("env: {SPILLWAY_X: a}", "env", "\"SPILLWAY_X\"", "SPILLWAY_"),
    ] {
        let file = JobFile::parse_yaml(&format!("run: a\n{line}\n")).expect(line);
        let error = file.into_spec(&defaults()).expect_err(line);
        assert_eq!(error.field.as_deref(), Some(field), "{line}: {error:?}");
        assert_eq!(error.value.as_deref(), Some(value), "{line}: {error:?}");
        let told = format!("{error} {}", error.hint.clone().unwrap_or_default());
        assert!(told.contains(says), "{line}: {told}");
    }
}

#[test]
fn a_program_and_a_group_are_needed() {
    for (text, field) in
        [("", "run"), ("name: a", "run"), ("run: ''", "run"), ("run: []", "run"), ("run: ['']", "run")]
    {
        let error = JobFile::parse_yaml(text).expect(text).into_spec(&defaults()).expect_err(text);
        assert_eq!(error.field.as_deref(), Some(field), "{text}");
    }
    let error =
        JobFile::parse_yaml("run: a").expect("file").into_spec(&JobDefaults::default()).expect_err("group");
    assert_eq!(error.field.as_deref(), Some("group"));
    assert!(error.hint.expect("hint").contains("spillway groups"));
}
