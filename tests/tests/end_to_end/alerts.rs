//! Who is told that a limit fills up: a real broker with a webhook, Slack and a mail server, all over TLS with a
//! certificate authority of their own, each told once, also when the broker is killed in between.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use spillway_api::v1::JobState;
use spillway_tests::federation::{GROUP, ON_PREM, SOON};
use spillway_tests::{Federation, Folder, Spawned, Work, profile, wait_for};
use xtask::cli::Profile;
use xtask::setup::{PYTHON, has_smtp_server};

use crate::limits::must;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "correct horse";

/// The receivers: one program with an HTTPS and an SMTP server, in a folder of its own.
struct Receivers {
    _process: Spawned,
    web: u16,
    mail: u16,
    folder: Folder,
}

impl Receivers {
    fn start() -> Self {
        let folder = Folder::new();
        certificates(folder.path());
        let mut command = Command::new(PYTHON);
        command.args(["-c", include_str!("receiver.py")]).current_dir(folder.path());
        command.args(["leaf.pem", "leaf.key", SECRET, "spillway", PASSWORD, "received"]);
        let process = Spawned::start("receivers", command, folder.path());
        let [web, mail] = wait_for("the receivers to listen", SOON, || {
            let (said, talk) = (process.stdout(), process.stderr());
            serde_json::from_str::<[u16; 2]>(&said).map_err(|error| format!("{error}: {said} {talk}"))
        });
        Self { _process: process, web, mail, folder }
    }

    /// What a broker is told of them.
    fn settings(&self) -> String {
        let folder = self.folder.path();
        let slack = format!("https://127.0.0.1:{}/slack", self.web);
        for (name, text) in [("hook.secret", SECRET), ("slack.secret", &slack), ("mail.secret", PASSWORD)] {
            let path = folder.join(name);
            fs::write(&path, text).expect("a secret is written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner may");
        }
        let (web, mail, at) = (self.web, self.mail, folder.display());
        format!(
            "\n[[alerts]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"https://127.0.0.1:{web}/hook\"\n\
             secret_file = \"{at}/hook.secret\"\nca_file = \"{at}/ca.pem\"\n\
             [[alerts]]\nname = \"chat\"\nkind = \"slack\"\nsecret_file = \"{at}/slack.secret\"\nca_file = \"{at}/ca.pem\"\n\
             [[alerts]]\nname = \"mail\"\nkind = \"email\"\nurl = \"smtp://spillway@127.0.0.1:{mail}\"\n\
             secret_file = \"{at}/mail.secret\"\nca_file = \"{at}/ca.pem\"\nfrom = \"Spillway <spillway@example.org>\"\n\
             to = [\"finance@example.org\", \"ops@example.org\"]\ngroups = [\"{GROUP}\"]\n"
        )
    }

    /// What was received, when it is so much.
    fn received(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} deliveries"), SOON, || {
            let text = fs::read_to_string(self.folder.path().join("received")).unwrap_or_default();
            let rows: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            let rows = rows.map_err(|error| error.to_string())?;
            if rows.len() >= count { Ok(rows) } else { Err(text) }
        })
    }
}

/// An authority and a certificate for this machine's own address.
fn certificates(folder: &Path) {
    let key = || KeyPair::generate().expect("a key");
    let (ca_key, leaf_key) = (key(), key());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).expect("an authority");
    let issuer = Issuer::from_params(&ca, &ca_key);
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("a certificate");
    for (name, text) in
        [("ca.pem", authority.pem()), ("leaf.pem", leaf.pem()), ("leaf.key", leaf_key.serialize_pem())]
    {
        fs::write(folder.join(name), text).expect("a certificate is written");
    }
}

/// Starts the broker with these lines at the end of its settings.
fn start(federation: &mut Federation, more: &str) {
    let command = federation.broker_command();
    let settings = federation.path().join("broker.toml");
    let text = fs::read_to_string(&settings).expect("the settings are there");
    fs::write(&settings, text + more).expect("the settings can be written");
    federation.start_broker_by(command);
}

fn by<'a>(rows: &'a [Value], receiver: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["by"] == receiver).collect()
}

#[test]
fn everybody_is_told_once_of_each_threshold_also_when_the_broker_is_killed() {
    if !has_smtp_server() && profile::current() == Profile::Quick {
        return xtask::step::say("LEFT OUT: python3-aiosmtpd is not installed");
    }
    assert!(has_smtp_server(), "python3-aiosmtpd is not installed; `cargo xtask setup` installs it");
    let mut federation = Federation::prepare();
    let receivers = Receivers::start();
    let settings = receivers.settings();
    start(&mut federation, &settings);
    federation.join("one", 2);
    must(&federation, "limits", &["set", GROUP, "concurrent-gpus", "2", "--alert", "50", "--alert", "100"]);
    let first = federation.submit(Work::new("first").at(ON_PREM).until_told());
    federation.wait_begun(&first);

    let rows = receivers.received(3);
    let headline =
        |percent| format!("Group {GROUP} has filled {percent} % of its limit on GPUs in use at once now");
    let [hook] = by(&rows, "/hook")[..] else { panic!("{rows:#?}") };
    assert_eq!((&hook["genuine"], &hook["body"]["threshold_percent"]), (&true.into(), &50.into()));
    assert_eq!((&hook["body"]["used"], &hook["body"]["limit"]), (&100.into(), &200.into()));
    assert_eq!(hook["key"], format!("{}/hook", hook["body"]["key"].as_str().unwrap_or_default()));
    let [chat] = by(&rows, "/slack")[..] else { panic!("{rows:#?}") };
    assert_eq!((&chat["genuine"], &chat["body"]["text"]), (&false.into(), &headline(50).into()));
    let [mail] = by(&rows, "mail")[..] else { panic!("{rows:#?}") };
    assert_eq!(
        (&mail["encrypted"], &mail["subject"]),
        (&true.into(), &format!("Spillway: {}", headline(50)).into())
    );
    assert_eq!(mail["to"], serde_json::json!(["finance@example.org", "ops@example.org"]));
    assert!(mail["text"].as_str().is_some_and(|text| text.contains("\nUsed: 1 GPUs\r\n")), "{mail}");

    // What was taken is noted; before that, it would be sent again under its key.
    wait_for("the deliveries to be noted", SOON, || {
        let told: Value = serde_json::from_str(&must(&federation, "alerts", &["-o", "json"]))
            .map_err(|it| it.to_string())?;
        let noted = |items: &Vec<Value>| items.len() == 3 && items.iter().all(|it| it["waiting"] == 0);
        if told["items"].as_array().is_some_and(noted) { Ok(()) } else { Err(told.to_string()) }
    });
    federation.kill_broker();
    start(&mut federation, &settings);
    federation.wait_node("one", spillway_types::NodeState::Ready);
    let second = federation.submit(Work::new("second").at(ON_PREM).until_told());
    federation.wait_begun(&second);
    let rows = receivers.received(6);
    for receiver in ["/hook", "/slack", "mail"] {
        assert_eq!(by(&rows, receiver).len(), 2, "each was told of 50 and of 100, once: {rows:#?}");
    }
    assert_eq!(by(&rows, "/hook")[1]["body"]["threshold_percent"], 100);
    assert_ne!(by(&rows, "mail")[0]["id"], by(&rows, "mail")[1]["id"]);
    for job in [first, second] {
        federation.finish(&job);
        federation.wait_job(&job, JobState::Succeeded);
    }
    federation.audit();
}
