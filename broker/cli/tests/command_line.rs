//! The binary itself: streams, exit codes, and a job's own code, against answers written by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

/// Runs the binary with an environment of its own.
fn spillway(server: &str, words: &[&str]) -> Output {
    command(server, words).output().expect("the binary runs")
}

fn command(server: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(words).env_clear().env("SPILLWAY_SERVER", server).env("SPILLWAY_TOKEN", "tok-secret");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// Answers each request with the next of these bodies, and gives back what was asked.
fn broker(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (socket, _) = listener.accept().expect("a connection");
            asked.push(answer(socket, status, &body));
        }
        asked
    });
    (url, served)
}

/// Reads one request and answers it; gives back its line, its headers and its body.
fn answer(socket: TcpStream, status: u16, body: &str) -> String {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head.push_str(&line);
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).expect("a body");
    let answer =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    reader.into_inner().write_all(answer.as_bytes()).expect("an answer");
    format!("{head}\n{}", text(&sent))
}

const ID: &str = "job_00000000000000010000000000000007";

fn summary(state: &str, tasks: &str) -> String {
    format!(
        r#"{{"id":"{ID}","name":"a","group":"vision","user":"ada","state":"{state}","tasks":{{{tasks}}},"submitted":0,
        "cost":{{"micros":0,"currency":"USD"}}}}"#
    )
}

fn view(state: &str, tasks: &str, failure: &str) -> String {
    format!(
        r#"{{"summary":{},"failure":{failure},"spec":{{"name":"a","group":"vision","command":["a"],"env":{{}},"image":null,
        "resources":{{"gpus":null,"cpus_milli":1000,"memory_mib":1024}},"nodes":1,"array":null,"time_limit":1,"expected":null,
        "placement":{{"allow":[],"prefer":[],"residency":[],"max_price":null,"max_wait":null,"spot":"never"}},
        "checkpoint":{{"signal":15,"grace":1}},"retry":{{"max_attempts":1,"on_loss":true,"on_failure":false}},"lease":60000}}}}"#,
        summary(state, tasks)
    )
}

#[test]
fn an_unreachable_broker_is_an_error_on_standard_error() {
    let server = nobody();
    let ended = spillway(&server, &["jobs"]);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(text(&ended.stdout), "");
    let said = text(&ended.stderr);
    assert!(said.starts_with(&format!("error: cannot reach the broker at {server}")), "{said}");
    assert!(said.contains("refused"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn wrong_usage_is_code_2_before_anybody_is_asked() {
    let server = nobody();
    for (words, says) in [
        (vec!["jbos"], "jbos"),
        (vec!["run", "--gpus", "0", "--", "true"], "resources.gpus"),
        (vec!["run", "--time-limit", "-5m", "--", "true"], "negative"),
        (vec!["run"], "COMMAND"),
        (vec!["job", "att_1"], "is not a job id"),
        (vec!["spend", "--by", "gruop"], "did you mean `group`?"),
        (vec!["spend", "--by", "site,site"], "a key is named twice"),
        (vec!["usage", "--by", "month,day"], "cuts time in one way"),
        (vec!["usage", "--by", "job,dataset"], "name `job` or `dataset`"),
        (vec!["spend", "--from", "2026-03-02", "--to", "2026-03-01"], "ends before it begins, at 2026-03-02"),
        (vec!["spend", "--from", "yesterday"], "write a day as `2026-03-01`"),
        (vec!["spend", "--period", "2026-3"], "`2026-3` is not a period"),
        (vec!["spend", "--currency", "euro"], "write three capitals"),
        (vec!["currencies", "set", "EUR", "0"], "is not an exchange rate"),
        (vec!["currencies", "set", "EUR", "1.05", "--from", "soon"], "is not a day"),
        (vec!["budget", "set", "vision", "5EURO"], "is not a currency"),
        (vec!["spend", "--zone", "Mars/Base"], "`Mars/Base` is not a time zone"),
        (vec!["spend", "anomalies", "--from", "2026-03-02", "--to", "2026-03-01"], "end before they begin"),
        (vec!["spend", "--by", "group", "anomalies"], "cannot be used with"),
        (vec!["jobs", "-o", "csv"], "only `spend`, `usage` and `pools` are written as CSV"),
    ] {
        let ended = spillway(&server, &words);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(says), "{words:?}: {said}");
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn a_waiting_run_returns_the_jobs_own_code() {
    let (server, served) = broker(vec![
        (200, summary("queued", r#""queued":1"#)),
        (200, view("running", r#""running":1"#, "null")),
        (200, view("failed", r#""failed":1"#, r#"{"kind":"exit-code","code":7}"#)),
    ]);
    let ended = spillway(&server, &["run", "--gpus", "H100:8", "--wait", "--", "train", "-o", "x"]);
    assert_eq!(ended.status.code(), Some(7), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), format!("{ID}\n"));
    assert!(text(&ended.stderr).contains("exit code 7"), "{}", text(&ended.stderr));
    let asked = served.join().expect("served");
    assert!(asked[0].starts_with("POST /v1/jobs "), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Bearer tok-secret"), "{}", asked[0]);
    assert!(asked[0].contains("idempotency-key: "), "{}", asked[0]);
    assert!(
        asked[0].ends_with(r#"{"run":["train","-o","x"],"resources":{"gpus":"H100:8"}}"#),
        "{}",
        asked[0]
    );
    assert!(asked[1].contains("wait_for=final"), "{}", asked[1]);
}

#[test]
fn a_followed_run_gives_the_jobs_output_and_nothing_else() {
    let (server, served) = broker(vec![
        (200, summary("queued", r#""queued":1"#)),
        (200, "one\ntwo\n".to_owned()),
        (200, view("succeeded", r#""succeeded":1"#, "null")),
    ]);
    let ended = spillway(&server, &["run", "-f", "--", "a"]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "one\ntwo\n");
    assert!(text(&ended.stderr).contains(ID));
    served.join().expect("served");
}

#[test]
fn a_wait_that_takes_too_long_is_code_3() {
    let (server, served) = broker(vec![(200, summary("queued", r#""queued":1"#))]);
    let ended = spillway(&server, &["run", "--wait", "--wait-timeout", "0s", "--", "a"]);
    assert_eq!(ended.status.code(), Some(3));
    assert!(text(&ended.stderr).contains("it goes on"), "{}", text(&ended.stderr));
    served.join().expect("served");
}

#[test]
fn a_job_file_comes_from_standard_input_and_a_refusal_reads_well() {
    let refusal = r#"{"error":{"code":"unknown_model","message":"no site has this GPU","field":"resources.gpus","value":"X:1","hint":"known models: H100"}}"#;
    let (server, served) = broker(vec![(422, refusal.to_owned())]);
    let mut child = command(&server, &["submit", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let job = b"run: a\nresources: {gpus: 'X:1'}\n";
    child.stdin.take().expect("a pipe").write_all(job).expect("a job file");
    let ended = child.wait_with_output().expect("the binary ends");
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        text(&ended.stderr),
        "error: no site has this GPU\n  field: resources.gpus\n  value: X:1\n  hint: known models: H100\n"
    );
    served.join().expect("served");
}

#[test]
fn json_is_the_apis_own_and_health_tells_by_its_code() {
    let health = |violations: u32| {
        format!(
            r#"{{"version":"1","deployment":"d","incarnation":1,"mode":"normal","invariant_violations":{violations}}}"#
        )
    };
    let (server, served) = broker(vec![(200, health(0)), (200, health(1))]);
    let ended = spillway(&server, &["health", "-o", "json"]);
    assert_eq!(ended.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("json");
    assert_eq!(json["mode"], "normal");
    let ended = spillway(&server, &["health"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stdout).contains("invariants broken: 1"), "{}", text(&ended.stdout));
    served.join().expect("served");
}

const RIVALS: &str = r#"{"name":"rivals","weight":1,"priority":0,"currency":"EUR","budget":{"micros":1085300000,"currency":"USD"},
    "budget_stated":{"amount":{"micros":1000000000,"currency":"EUR"},"rate":"1.0853","on":"2026-03-01"},
    "spent":{"micros":0,"currency":"USD"},"held":{"micros":0,"currency":"USD"},"left":{"micros":1085300000,"currency":"USD"}}"#;
const WORTH: &str = r#"{"items":[{"currency":"EUR","from":"2020-01-01","rate":"1.0853","base":"USD"}]}"#;

#[test]
fn a_budget_is_in_the_groups_currency_where_it_names_none_and_shown_in_it() {
    let page = |item: &str| format!(r#"{{"items":[{item}]}}"#);
    let answers = [page(RIVALS), RIVALS.to_owned(), page(""), WORTH.to_owned()];
    let (server, served) = broker(answers.map(|body| (200, body)).into());
    let ended = spillway(&server, &["budget", "set", "rivals", "1000"]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let shown = text(&ended.stdout);
    assert!(
        shown.contains("1000.00 EUR") && shown.contains("1000.00 EUR at 1.0853 of 2026-03-01"),
        "{shown}"
    );
    assert!(!shown.contains("USD"), "{shown}");
    let asked = served.join().expect("served");
    assert!(asked[0].starts_with("GET /v1/groups "), "{}", asked[0]);
    assert!(asked[1].ends_with(r#"{"budget":{"micros":1000000000,"currency":"EUR"}}"#), "{}", asked[1]);
    // What it names needs no look at the group.
    let answers = [RIVALS.to_owned(), page(""), WORTH.to_owned()];
    let (server, served) = broker(answers.map(|body| (200, body)).into());
    let ended = spillway(&server, &["budget", "set", "rivals", "4000USD"]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let asked = served.join().expect("served");
    assert!(asked[0].ends_with(r#"{"budget":{"micros":4000000000,"currency":"USD"}}"#), "{}", asked[0]);
}

#[test]
fn a_budget_is_shown_in_the_currency_that_is_asked_for() {
    let page = |item: &str| format!(r#"{{"items":[{item}]}}"#);
    let month = r#"{"group":"rivals","metric":"money","scope":"everywhere","window":"month","nominal":2170600,"limit":2170600,
        "used":1085300,"held":0,"left":1085300,"action":"drain"}"#;
    let answers = [page(RIVALS), page(month), page(RIVALS), page(month), WORTH.to_owned()];
    let (server, served) = broker(answers.map(|body| (200, body)).into());
    let dollars = spillway(&server, &["budget", "show", "rivals", "--currency", "USD"]);
    assert!(text(&dollars.stdout).contains("1085.30 USD") && text(&dollars.stdout).contains("2.17 USD"));
    let euros = spillway(&server, &["budget", "show", "rivals", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&euros.stdout).expect("json");
    assert_eq!(
        (&json["currency"], &json["group"]["budget"]["micros"]),
        (&"EUR".into(), &1_000_000_000.into())
    );
    assert_eq!(
        (&json["limits"][0]["limit"], &json["limits"][0]["used"]),
        (&2_000_000.into(), &1_000_000.into())
    );
    served.join().expect("served");
}

#[test]
fn a_report_is_asked_for_in_a_currency_and_carries_it() {
    let euros = |micros: i64| format!(r#"{{"micros":{micros},"currency":"EUR"}}"#);
    let sums = format!(
        r#""amount":{},"overhead":{},"egress":{},"gpu_ms":0,"slices":1"#,
        euros(1_500_000),
        euros(0),
        euros(0)
    );
    let report = format!(
        r#"{{"by":["group"],"zone":"UTC","rows":[{{"keys":{{"group":"rivals"}},{sums}}}],"total":{},"sums":{{{sums}}}}}"#,
        euros(1_500_000)
    );
    let (server, served) = broker(vec![(200, report.clone()), (200, report)]);
    let ended = spillway(&server, &["spend", "--group", "rivals", "--currency", "EUR"]);
    assert!(text(&ended.stdout).contains("1.50 EUR") && !text(&ended.stdout).contains("USD"));
    assert!(text(&ended.stderr).contains("at what EUR was worth on the day"), "{}", text(&ended.stderr));
    let csv = spillway(&server, &["usage", "--group", "rivals", "-o", "csv"]);
    assert!(text(&csv.stdout).contains("rivals,,EUR,1.500000"), "{}", text(&csv.stdout));
    let asked = served.join().expect("served");
    assert!(asked[0].contains("group=rivals&currency=EUR"), "{}", asked[0]);
    assert!(asked[1].contains("group=rivals") && !asked[1].contains("currency="), "{}", asked[1]);
}

#[test]
fn shipped_policies_are_listed_and_shown() {
    let ended = spillway(&nobody(), &["policy", "list"]);
    let listed = text(&ended.stdout);
    for name in ["default", "cost-first", "deadline", "research-lab", "on-prem-only"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
        let shown = spillway(&nobody(), &["policy", "show", name]);
        assert_eq!(shown.status.code(), Some(0));
        assert!(
            text(&shown.stdout).starts_with("# ") && text(&shown.stdout).contains("sharing = "),
            "{name}"
        );
    }
    let json = spillway(&nobody(), &["policy", "show", "on-prem-only", "-o", "json"]);
    assert!(text(&json.stdout).contains("\"burst\": \"never\""), "{}", text(&json.stdout));
    let unknown = spillway(&nobody(), &["policy", "show", "cheap"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("there are default, efficient, cost-first"),
        "{}",
        text(&unknown.stderr)
    );
}

/// A folder with one policy file and one file of cases.
fn policies(policy: &str, expect: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let base = "@id(\"everybody\") permit (principal, action, resource);\n";
    std::fs::write(folder.path().join("a.cedar"), format!("{base}{policy}")).expect("a file");
    let cases = format!(
        "[places.here]\nsite = 'here'\npool = 'here'\nkind = 'cloud'\n\n[[cases]]\nname = 'eve'\nuser = 'eve'\n\
         group = 'a'\nplace = 'here'\n{expect}\n"
    );
    std::fs::write(folder.path().join("a.cases.toml"), cases).expect("a file");
    folder
}

fn policy_test(folder: &std::path::Path, more: &[&str]) -> Output {
    let dir = folder.to_str().expect("text");
    spillway(&nobody(), &[&["policy", "test", dir], more].concat())
}

const NO_EVE: &str = "@id(\"no-eve\") forbid (principal == User::\"eve\", action, resource);";

#[test]
fn policies_are_tested_without_a_broker() {
    let folder = policies(NO_EVE, "expect = 'denied'\nby = ['no-eve']");
    let ended = policy_test(folder.path(), &[]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert!(text(&ended.stdout).contains("ok      eve"), "{}", text(&ended.stdout));
    assert_eq!(text(&ended.stderr), "no case is decided by: everybody\n");

    let folder = policies(NO_EVE, "expect = 'allowed'\nby = ['everybody']");
    let ended = policy_test(folder.path(), &["-o", "json"]);
    assert_eq!(ended.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("json");
    assert_eq!((&json["held"], &json["failed"]), (&0.into(), &1.into()));
    assert_eq!(json["cases"][0]["got"]["by"][0], "no-eve");
    assert!(json["cases"][0]["file"].as_str().expect("text").ends_with("a.cases.toml"));
    assert_eq!(json["cases"][0]["line"], 7);
    assert!(text(&ended.stderr).contains("1 of 1 cases do not hold"));
}

#[test]
fn policies_that_cannot_be_tested_are_pointed_at() {
    let expect = "expect = 'denied'\nby = ['no-eve']";
    for (policy, expect, code, says) in [
        ("@id(\"x\") forbid (principal, action resource);", expect, 1, "a.cedar:2:36: this does not parse"),
        ("@id(\"x\") forbid (principal, action, resource) when { resource.moon };", expect, 1, "a.cedar:2:"),
        (NO_EVE, "expect = 'perhaps'\nby = []", 1, "a.cases.toml:11:10: unknown variant `perhaps`"),
    ] {
        let ended = policy_test(policies(policy, expect).path(), &[]);
        assert_eq!(ended.status.code(), Some(code));
        assert!(text(&ended.stderr).contains(says), "{says}: {}", text(&ended.stderr));
    }
    let empty = tempfile::tempdir().expect("a folder");
    let ended = policy_test(empty.path(), &[]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("`.cedar`"), "{}", text(&ended.stderr));
    let ended = policy_test(&empty.path().join("none"), &[]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("none"), "{}", text(&ended.stderr));
}
