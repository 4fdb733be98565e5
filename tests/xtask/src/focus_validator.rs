//! The public validator of FOCUS files, `focus-validator`, in a virtual environment under `target/`.
//!
//! It needs Python 3.12: an older one is refused by it, and for newer ones the numpy that it wants has no wheel. A
//! machine without that Python leaves this one judge out, and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::python::Packages;
use crate::step::say;

/// The validator with all it needs.
const PACKAGES: Packages = Packages {
    name: "focus-validator",
    title: "FOCUS validator",
    requirements: include_str!("focus_validator.txt"),
    versions: "== (3, 12)",
};

/// What is said where there is no Python 3.12.
pub const LEFT_OUT: &str = "no Python 3.12 with venv here: the public FOCUS validator, one judge of the export, is left out \
     (Debian calls the packages python3.12 and python3.12-venv; pyenv and uv have it too)";

/// An installed validator.
#[derive(Debug, Clone)]
pub struct FocusValidator {
    folder: PathBuf,
}

impl FocusValidator {
    /// The one that is installed, if it is.
    #[must_use]
    pub fn installed(target: &Path) -> Option<Self> {
        PACKAGES.installed(target).map(|folder| Self { folder })
    }

    /// Installs it where it is missing; `None` where there is no Python 3.12. Running it again does nothing.
    ///
    /// # Errors
    /// There is a Python 3.12, and the packages cannot be installed with it.
    pub fn install(target: &Path) -> Result<Option<Self>> {
        Ok(PACKAGES.install(target)?.map(|folder| Self { folder }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_its_version() {
        for line in PACKAGES.requirements.lines() {
            let (name, version) = line.split_once("==").expect("name==version");
            assert!(!name.is_empty() && version.starts_with(|first: char| first.is_ascii_digit()), "{line}");
        }
        assert!(PACKAGES.requirements.contains("focus-validator==2.2.1\n"));
    }
}
