//! The public validator of FOCUS files, `focus-validator`, in a virtual environment under `target/`.
//!
//! It needs Python 3.12: an older one is refused by it, and for newer ones the numpy that it wants has no wheel. A
//! machine without that Python leaves this one judge out, and says so.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::setup;
use crate::step::{Step, say};

/// The validator with all it needs, at the versions that were tried together.
const REQUIREMENTS: &str = include_str!("focus_validator.txt");

/// What is said where there is no Python 3.12.
pub const LEFT_OUT: &str = "no Python 3.12 with venv here: the public FOCUS validator, one judge of the export, is left out \
     (Debian calls the packages python3.12 and python3.12-venv; pyenv and uv have it too)";

/// Rules of the validator that contradict the specification and each other, and the rules that are made of them:
/// `deploy/adr/0008-what-a-focus-export-is-held-against.md` shows why for each.
pub const WRONG_UPSTREAM: [&str; 10] = [
    "CapacityReservationStatus-C-000-C",
    "CapacityReservationStatus-C-002-C",
    "CapacityReservationStatus-C-003-C",
    "CapacityReservationStatus-C-004-C",
    "CommitmentDiscountStatus-C-000-C",
    "CommitmentDiscountStatus-C-002-C",
    "CommitmentDiscountStatus-C-004-C",
    "CostAndUsage-D-000-M",
    "CostAndUsage-D-002-M",
    "InvoiceId-C-004-C",
];

/// What a report comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The rules that fail, each from its own line.
    pub failed: BTreeSet<String>,
    /// How many the line of totals says that failed.
    pub total_failed: usize,
    /// How many it says that held.
    pub total_passed: usize,
}

impl Verdict {
    /// Reads a report: lines such as `X-C-001-M: FAIL  (violations=1, ...)`, and
    /// `Total: 578 | Pass: 356 | Fail: 12 | Skipped: 210`.
    ///
    /// # Errors
    /// It has no line of totals.
    pub fn of(report: &str) -> Result<Self> {
        let lines = report.lines().filter_map(|line| line.split_once(": FAIL "));
        let rules = lines.filter_map(|(before, _)| before.split_whitespace().next_back());
        let total = |what: &str| -> Result<usize> {
            let (_, rest) = report.split_once(what).context("the report has no line of totals")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().with_context(|| format!("`{what}` has no number behind it"))
        };
        Ok(Self {
            failed: rules.map(str::to_owned).collect(),
            total_failed: total("Fail: ")?,
            total_passed: total("Pass: ")?,
        })
    }

    /// The rules that fail and are not known to be wrong themselves.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let failed = self.failed.iter().map(String::as_str);
        failed.filter(|rule| !WRONG_UPSTREAM.contains(rule)).collect()
    }
}

/// An installed validator.
#[derive(Debug, Clone)]
pub struct FocusValidator {
    folder: PathBuf,
}

impl FocusValidator {
    /// The one that is installed, if it is.
    #[must_use]
    pub fn installed(target: &Path) -> Option<Self> {
        let folder = target.join("focus-validator");
        let stamp = fs::read_to_string(folder.join("requirements.txt")).ok()?;
        (stamp == REQUIREMENTS).then_some(Self { folder })
    }

    /// Installs it where it is missing; `None` where there is no Python 3.12. Running it again does nothing.
    ///
    /// # Errors
    /// There is a Python 3.12, and the packages cannot be installed with it.
    pub fn install(target: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
        let lock = File::create(target.join("focus-validator.lock")).context("cannot create the lock")?;
        lock.lock().context("cannot wait for another installation")?;
        if let Some(installed) = Self::installed(target) {
            return Ok(Some(installed));
        }
        let Some(python) = find_python() else {
            return Ok(None);
        };
        let folder = target.join("focus-validator");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Step::new("Python environment", &text(&python), "-m venv").args([text(&folder)]).run(target)?;
        let wanted = folder.join("wanted.txt");
        fs::write(&wanted, REQUIREMENTS).context("cannot write the list of packages")?;
        let pip = Step::new(
            "FOCUS validator",
            &text(&folder.join("bin/python")),
            "-m pip install --quiet --no-deps -r",
        );
        pip.args([text(&wanted)]).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").run(target)?;
        // Only now it counts as installed.
        fs::rename(&wanted, folder.join("requirements.txt")).context("cannot mark it as installed")?;
        Ok(Some(Self { folder }))
    }

    /// Its report on a file, which must be given as a whole path; the rules are those of FOCUS 1.2 that it ships.
    ///
    /// # Errors
    /// It could not be started, or ended without a report. What it finds is no error: it ends with 0 then too.
    pub fn report(&self, file: &Path) -> Result<String> {
        let packages = self.folder.join("lib/python3.12/site-packages");
        let arguments = ["-m", "focus_validator.main", "--block-download", "--validate-version", "1.2.0.1"];
        let output = Command::new(self.folder.join("bin/python"))
            .args(arguments)
            .args(["--show-violations", "--focus-dataset", "CostAndUsage", "--applicability-criteria", "ALL"])
            .arg("--data-file")
            .arg(file)
            .current_dir(packages)
            .stdin(Stdio::null())
            .output()
            .context("cannot start the FOCUS validator")?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("the FOCUS validator ended with {}:\n{report}\n{errors}", output.status);
        }
        Ok(report)
    }
}

/// Installs it as part of the set-up, and says where it is left out.
///
/// # Errors
/// As [`FocusValidator::install`].
pub fn set_up(target: &Path) -> Result<()> {
    if FocusValidator::install(target)?.is_none() {
        say(&format!("    {LEFT_OUT}"));
    }
    Ok(())
}

/// A Python 3.12 that can make virtual environments.
fn find_python() -> Option<PathBuf> {
    let mut candidates = vec![PathBuf::from("python3.12"), PathBuf::from("python3")];
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    for root in std::env::var_os("PYENV_ROOT").map(PathBuf::from).into_iter().chain(home) {
        let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = versions.map(|version| version.path().join("bin/python")).collect();
        paths.sort();
        candidates.extend(paths.into_iter().filter(|path| path.to_string_lossy().contains("/3.12.")));
    }
    candidates.into_iter().find(|python| is_3_12(python))
}

fn is_3_12(python: &Path) -> bool {
    let asks = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 12))";
    setup::succeeds(Command::new(python).args(["-c", asks]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_its_version() {
        for line in REQUIREMENTS.lines() {
            let (name, version) = line.split_once("==").expect("name==version");
            assert!(!name.is_empty() && version.starts_with(|first: char| first.is_ascii_digit()), "{line}");
        }
        assert!(REQUIREMENTS.contains("focus-validator==2.2.1\n"));
    }

    #[test]
    fn a_report_is_read_line_by_line() {
        let report = "  InvoiceId-C-004-C: FAIL  (violations=3)\n  BilledCost-C-001-M: PASS\n  \
            ListCost-C-001-M: FAIL  (violations=1)\nTotal: 3 | Pass: 1 | Fail: 2 | Skipped: 0\n";
        let verdict = Verdict::of(report).expect("a report");
        assert_eq!((verdict.total_failed, verdict.total_passed, verdict.failed.len()), (2, 1, 2));
        assert_eq!(verdict.unknown(), ["ListCost-C-001-M"]);
        assert!(Verdict::of("nothing").is_err());
    }

    #[test]
    fn what_is_no_python_3_12_is_not_taken() {
        assert!(!is_3_12(Path::new("no-such-python")));
        assert!(!is_3_12(Path::new("false")));
    }
}
