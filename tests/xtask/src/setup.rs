//! Installs what the tests need, if it is missing. Running it again does nothing.
//!
//! Knows Debian and its relatives (apt-get); elsewhere it says what to install.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::postgres;
use crate::step::{Step, say};

/// Read by Debian's PostgreSQL packages before they make a cluster and start it as a service.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.conf";

/// Asked by Debian's packages whether they may start what they install; 101 says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Debian's own Python, which its packages are for; the one on the path may be another.
pub const PYTHON: &str = "/usr/bin/python3";

/// Something the tests start.
struct Need {
    name: &'static str,
    package: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: [Need; 9] = [
    Need { name: "PostgreSQL", package: "postgresql", is_there: || postgres::find_binaries().is_some() },
    Need { name: "hledger", package: "hledger", is_there: || is_on_path("hledger") },
    Need { name: "slurmctld", package: "slurmctld", is_there: || is_on_path("slurmctld") },
    Need { name: "slurmd", package: "slurmd", is_there: || is_on_path("slurmd") },
    Need { name: "slurmdbd", package: "slurmdbd", is_there: || is_on_path("slurmdbd") },
    Need { name: "munge", package: "munge", is_there: || is_on_path("munged") },
    Need { name: "MariaDB", package: "mariadb-server-core", is_there: || is_on_path("mariadbd") },
    Need { name: "aiosmtpd", package: "python3-aiosmtpd", is_there: has_smtp_server },
    Need { name: "setpriv", package: "util-linux", is_there: || is_on_path("setpriv") },
];

/// Installs what is missing.
///
/// # Errors
/// Something is missing and cannot be installed here; the error names it and what to do.
pub fn run(root: &Path) -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        say("    everything that the tests need is there");
        return Ok(());
    }
    let names = missing.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
    let packages = missing.iter().map(|need| need.package).collect::<Vec<_>>().join(" ");
    if !is_on_path("apt-get") {
        bail!(
            "the tests need {names}, and this machine has no apt-get to install it with. Install it by hand (Debian \
             calls the packages: {packages}), or run `cargo xtask test --quick`, which leaves those tests out"
        );
    }
    let root_prefix = root_prefix()?;
    if missing.iter().any(|need| need.package == "postgresql") {
        no_cluster_please(root, root_prefix)?;
    }
    let install = apt_get(root_prefix, &format!("install -y --no-install-recommends {packages}"));
    let install = without_services(POLICY, root_prefix, &install);
    // The lists of a fresh container are empty, or too old to be served.
    if install.run(root).is_err() {
        apt_get(root_prefix, "update").run(root)?;
        install.run(root)?;
    }
    match missing.iter().find(|need| !(need.is_there)()) {
        None => Ok(()),
        Some(need) => bail!("{} was installed, and {} still cannot be found", need.package, need.name),
    }
}

/// The words before a command that needs root.
fn root_prefix() -> Result<&'static str> {
    let output = Command::new("id").arg("-u").output().context("cannot start `id`")?;
    if output.stdout.trim_ascii() == b"0" {
        return Ok("");
    }
    if is_on_path("sudo") {
        return Ok("sudo ");
    }
    bail!("installing packages needs root, and there is no sudo; run `cargo xtask setup` as root once")
}

fn apt_get(root_prefix: &str, line: &str) -> Step {
    let options = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold";
    let line = format!("{root_prefix}env {options} {line}");
    let (program, rest) = line.split_once(' ').expect("the line was put together with spaces");
    Step::new("packages", program, rest)
}

/// The same installation with nothing that it installs started as a service: the tests start servers of their own.
/// A policy that is there stays as it is; ours is taken away again.
fn without_services(policy: &str, root_prefix: &str, install: &Step) -> Step {
    let install = install.command_line();
    let script = format!(
        "if test -e {policy}; then exec {install}; fi; \
         trap '{root_prefix}rm -f {policy}' EXIT; trap 'exit 1' INT TERM; \
         printf '#!/bin/sh\\nexit 101\\n' | {root_prefix}tee {policy} >/dev/null && \
         {root_prefix}chmod 755 {policy} && {install}"
    );
    Step::new("packages", "sh", "-c").args([script])
}

/// The tests start servers of their own; a cluster of the system would only stand around.
fn no_cluster_please(root: &Path, root_prefix: &str) -> Result<()> {
    if Path::new(CLUSTER_SETTINGS).exists() {
        return Ok(());
    }
    let script = format!(
        "{root_prefix}mkdir -p /etc/postgresql-common && \
         echo create_main_cluster = false | {root_prefix}tee {CLUSTER_SETTINGS} >/dev/null"
    );
    Step::new("no PostgreSQL cluster", "sh", "-c").args([script]).run(root)
}

/// Whether Debian's Python has the SMTP server that tests send mail to.
#[must_use]
pub fn has_smtp_server() -> bool {
    succeeds(Command::new(PYTHON).args(["-c", "import aiosmtpd"]))
}

/// Whether the shell would find the program.
#[must_use]
pub fn is_on_path(program: &str) -> bool {
    succeeds(Command::new("sh").args(["-c", "command -v -- \"$1\"", "probe", program]))
}

/// Whether a program runs and ends well; what it says is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let probe = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_or_not() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program"));
    }

    #[test]
    fn packages_are_installed_as_root_without_questions() {
        let cases = [
            ("", "env DEBIAN_FRONTEND=noninteractive apt-get "),
            ("sudo ", "sudo env DEBIAN_FRONTEND=noninteractive apt-get "),
        ];
        for (prefix, expected) in cases {
            let line = apt_get(prefix, "install -y postgresql").command_line();
            assert!(line.starts_with(expected) && line.ends_with(" install -y postgresql"), "{line}");
        }
    }

    #[test]
    fn nothing_is_started_while_packages_are_installed_and_the_policy_is_as_it_was_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let policy = folder.path().join("policy-rc.d");
        let path = policy.display().to_string();
        let asked = Step::new("t", "sh", "-c").args([format!("{path}; test $? = 101")]);
        let failing = Step::new("t", "false", "");
        without_services(&path, "", &asked).run(folder.path()).expect("the policy says 101 meanwhile");
        assert!(!policy.exists(), "it was taken away");
        assert!(without_services(&path, "", &failing).run(folder.path()).is_err());
        assert!(!policy.exists(), "also after a failure");
        std::fs::write(&policy, "mine").expect("a policy");
        without_services(&path, "", &Step::new("t", "true", "")).run(folder.path()).expect("it runs");
        assert_eq!(std::fs::read_to_string(&policy).expect("it is there"), "mine");
    }
}
