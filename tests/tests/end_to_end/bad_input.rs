//! Wrong input through the real command line: each refusal names what was wrong and the way out, with its exit code,
//! and nothing else happens.

use std::net::{TcpListener, UdpSocket};

use spillway_tests::cli::{self, Said};
use spillway_tests::federation::{AgentSpec, GROUP, SOON};
use spillway_tests::process::free_port;
use spillway_tests::{Federation, Folder, wait_for};

/// Runs a command as the admin: its name, and what follows it.
pub(crate) fn spillway(federation: &Federation, command: &str, arguments: &[&str]) -> Said {
    let (url, token) = (federation.url(), federation.token_file());
    let token = token.to_str().expect("the path is text");
    let folder = Folder::new();
    let words = [&[command, "--server", &url, "--token-file", token], arguments].concat();
    cli::spillway(folder.path(), "cli", &words)
}

pub(crate) fn refused(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    assert_eq!(said.stdout, "", "a refusal is no data");
    for word in words {
        assert!(said.stderr.contains(word), "`{word}` is not in: {}", said.stderr);
    }
}

#[test]
fn wrong_job_files_are_refused_by_field_line_and_way_out() {
    let mut federation = Federation::start();
    federation.join("one", 1);
    let large = format!("run: a\n#{}", "x".repeat(10 << 20));
    let refused_by_both: [(&str, &[&str]); 4] = [
        (
            "run: a\nresources:\n  gpu: H100:8\n",
            &["line 3", "unknown field `gpu`", "resources.gpu", "did you mean `gpus`?"],
        ),
        ("run: a\nresources:\n  gpus: \"0\"\n", &["resources.gpus", "value: 0", "leave `gpus` out"]),
        ("run: a\ntime_limit: -5m\n", &["time_limit", "value: -5m", "negative"]),
        (&large, &["limit is 1048576 bytes", "put data into files"]),
    ];
    // A plan says of these what is in the way, as it does of any other job.
    let refused_by_submit: [(&str, &[&str]); 3] = [
        (
            "run: a\nresources:\n  gpus: RTX-9999:1\n",
            &["no site has RTX-9999", "known models: H100", "resources.gpus"],
        ),
        ("run: a\nresources:\n  gpus: H100:64\n", &["resources.gpus", "H100:64", "at most 1"]),
        ("run: a\nwhere:\n  allow: [mars]\n", &["where.allow", "mars", "known sites: cloud-east, dc"]),
    ];
    let path = federation.path().join("job.yaml");
    let path = path.to_str().unwrap();
    for (text, words) in refused_by_both {
        std::fs::write(path, text).unwrap();
        for command in ["submit", "plan"] {
            refused(&spillway(&federation, command, &[path]), 1, words);
        }
    }
    for (text, words) in refused_by_submit {
        std::fs::write(path, text).unwrap();
        refused(&spillway(&federation, "submit", &[path]), 1, words);
    }
    refused(
        &spillway(&federation, "run", &["--group", GROUP, "--gpus", "0", "--", "true"]),
        2,
        &["resources.gpus"],
    );
    refused(&spillway(&federation, "run", &["--group", "nobody", "--", "true"]), 1, &["group", "nobody"]);
    refused(&spillway(&federation, "submit", &[]), 2, &["FILE"]);
    refused(
        &spillway(&federation, "run", &["--env", "FOO", "--", "true"]),
        2,
        &["--env", "FOO", "NAME=VALUE"],
    );
    refused(
        &spillway(&federation, "submit", &["/nowhere/job.yaml"]),
        1,
        &["cannot read the job file /nowhere/job.yaml"],
    );
    let jobs = spillway(&federation, "jobs", &["-o", "json"]);
    assert_eq!(jobs.code, 0, "{jobs:?}");
    let jobs: serde_json::Value = serde_json::from_str(&jobs.stdout).unwrap();
    assert_eq!(jobs["items"], serde_json::json!([]), "nothing of it became a job");
    federation.audit();
}

#[test]
fn callers_without_a_good_token_are_refused() {
    let federation = Federation::start();
    let url = federation.url();
    let bad = federation.path().join("bad.token");
    std::fs::write(&bad, "sw_0000").unwrap();
    let said = cli::spillway(
        federation.path(),
        "foreign",
        &["jobs", "--server", &url, "--token-file", bad.to_str().unwrap()],
    );
    refused(&said, 1, &["token"]);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let said = cli::spillway(federation.path(), "nobody", &["jobs", "--server", &nobody]);
    refused(&said, 1, &["cannot reach the broker", &nobody]);
    let said = cli::spillway(federation.path(), "no-url", &["jobs", "--server", "localhost"]);
    refused(&said, 1, &["`localhost` is not the URL of a broker"]);
    federation.audit();
}

/// A machine with this token ends with code 1 and these words, and does not become a node.
fn cannot_join(federation: &Federation, spec: &AgentSpec, token: &str, words: &[&str]) {
    let mut agent = spec.start(Some(token));
    let status = agent.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", agent.stderr());
    for word in words {
        assert!(agent.stderr().contains(word), "`{word}` is not in: {}", agent.stderr());
    }
    assert!(!agent.stderr().contains(token), "the token is in the log");
    assert!(federation.node(&spec.name).is_none(), "{} became a node", spec.name);
}

#[test]
fn join_tokens_are_good_once_for_a_while_and_here() {
    let mut federation = Federation::start();
    let other = Federation::start();
    let short = federation.join_line(Some("1s"));
    let line = federation.join_line(None);
    let spec = |name: &str| AgentSpec::new(federation.path(), name, 1, &line);
    let (expired, thief, foreign, lost) = (spec("expired"), spec("thief"), spec("foreign"), spec("lost"));
    federation.join("one", 1);

    let first = spec_of(&federation, "first", &line).start(Some(line.token.expose()));
    federation.wait_node("first", spillway_types::NodeState::Ready);
    cannot_join(&federation, &thief, line.token.expose(), &["used by another machine", "spillway join"]);
    drop(first);

    wait_for("the token to expire", SOON, || {
        let now = federation
            .ask(federation.client().create_join_token(&Default::default()))
            .map_err(|e| e.to_string())?;
        // A token's end and an id are both by the broker's clock.
        if now.expires.0 > short.expires.0 + 3_600_000 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    cannot_join(&federation, &expired, short.token.expose(), &["has expired", "spillway join"]);

    let theirs = other.join_line(None);
    cannot_join(&federation, &foreign, theirs.token.expose(), &["not known here"]);
    let misled = AgentSpec { ca_fingerprint: theirs.ca_fingerprint.clone(), ..lost };
    cannot_join(&federation, &misled, theirs.token.expose(), &["fingerprint"]);
    other.audit();
    federation.audit();
}

fn spec_of(federation: &Federation, name: &str, line: &spillway_api::v1::JoinLine) -> AgentSpec {
    AgentSpec::new(federation.path(), name, 1, line)
}

#[test]
fn a_port_in_use_is_named() {
    let federation = Federation::prepare();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    for (flag, address, words) in
        [("--listen", &tcp, &["cannot listen on", "another broker"][..]), ("--tunnel", &udp, &["in use"])]
    {
        let mut command = federation.broker_command();
        command.args([flag, address]);
        let said = cli::run(federation.path(), "refused-broker", command);
        refused(&said, 1, words);
        assert!(said.stderr.contains(address.as_str()), "{}", said.stderr);
    }
}

#[test]
fn a_wrong_settings_file_is_refused_by_name() {
    let folder = Folder::new();
    let path = folder.path().join("broker.toml");
    for (text, words) in [
        ("colour = 1\n", &["broker.toml", "colour"][..]),
        ("[tuning]\nwarm = \"-3s\"\n", &["broker.toml", "negative"]),
        ("[[clouds]]\nname = \"sky\"\nkind = \"moon\"\ncatalogue = \"c\"\n", &["broker.toml", "moon"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let arguments = ["broker", "--check-config", "--config", path.to_str().unwrap()];
        refused(&cli::spillway(folder.path(), "check", &arguments), 1, words);
    }
}
