//! Whatever happens to the process of a test, what it started ends: the tests here kill such a process hard.
//!
//! The owner that is killed is this same test executable, started again with a role in its environment.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spillway_tests::{Spawned, wait_for};
use xtask::postgres::{PostgresServer, URL_VARIABLE};

const ROLE: &str = "SPILLWAY_TEST_ROLE";
const SOON: Duration = Duration::from_secs(60);

/// Runs the named test of this executable as the owner; `None` in the owner itself.
fn start_owner(test: &str, dir: &tempfile::TempDir) -> Option<Child> {
    if std::env::var_os(ROLE).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("a test finds itself"));
    command.args(["--exact", test, "--nocapture"]).env(ROLE, dir.path()).env_remove(URL_VARIABLE);
    Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a test can be started"))
}

/// The owner tells through this file what it has started, then waits to be killed.
fn tell_and_wait(words: &str) {
    let dir = std::path::PathBuf::from(std::env::var_os(ROLE).expect("only the owner is here"));
    std::fs::write(dir.join("half"), words).expect("the folder can be written");
    std::fs::rename(dir.join("half"), dir.join("told")).expect("the folder can be written");
    wait_for("the kill", Duration::from_secs(300), || -> Result<(), String> {
        Err("still alive".to_owned())
    });
}

fn told(dir: &tempfile::TempDir) -> String {
    wait_for("the owner to tell", SOON, || {
        std::fs::read_to_string(dir.path().join("told")).map_err(|error| error.to_string())
    })
}

fn kill(mut owner: Child) {
    owner.kill().expect("it runs");
    owner.wait().expect("it is our child");
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn wait_until_gone(pid: &str) {
    wait_for("the process to end", SOON, || if is_alive(pid) { Err(format!("{pid} runs")) } else { Ok(()) });
}

#[test]
fn processes_end_with_a_killed_owner() {
    let dir = tempfile::tempdir().unwrap();
    let Some(owner) = start_owner("processes_end_with_a_killed_owner", &dir) else {
        let mut command = Command::new("sleep");
        command.arg("600");
        let spawned = Spawned::start("sleep", command, dir.path());
        tell_and_wait(&spawned.pid().to_string());
        return;
    };
    let pid = told(&dir);
    assert!(is_alive(&pid));
    kill(owner);
    wait_until_gone(&pid);
}

#[test]
fn a_postgres_server_ends_with_a_killed_owner() {
    let dir = tempfile::tempdir().unwrap();
    if spillway_tests::postgres::shared().is_none() {
        return;
    }
    let Some(owner) = start_owner("a_postgres_server_ends_with_a_killed_owner", &dir) else {
        let server = PostgresServer::start().unwrap();
        tell_and_wait(server.url());
        return;
    };
    let url = told(&dir);
    let (_, socket_dir) = url.split_once("?host=").unwrap();
    let pid_file = std::fs::read_to_string(format!("{socket_dir}/data/postmaster.pid")).unwrap();
    let pid = pid_file.lines().next().unwrap();
    assert!(is_alive(pid));
    kill(owner);
    wait_until_gone(pid);
    wait_for("the folder to go", SOON, || match std::fs::exists(socket_dir) {
        Ok(false) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
