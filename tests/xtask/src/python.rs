//! Virtual environments of Python under `target/`, for judges that are Python packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup;
use crate::step::Step;

/// Packages at the versions that were tried together, in a folder of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages {
    /// The folder's name under `target/`.
    pub(crate) name: &'static str,
    /// What they are, for people.
    pub(crate) title: &'static str,
    /// All of them, one a line, as `name==version`: nothing else is installed.
    pub(crate) requirements: &'static str,
    /// A condition in Python on `sys.version_info[:2]`.
    pub(crate) versions: &'static str,
}

impl Packages {
    fn folder(&self, target: &Path) -> PathBuf {
        target.join(self.name)
    }

    /// The folder that they are installed in, if they are.
    pub(crate) fn installed(&self, target: &Path) -> Option<PathBuf> {
        let folder = self.folder(target);
        let stamp = fs::read_to_string(folder.join("requirements.txt")).ok()?;
        (stamp == self.requirements).then_some(folder)
    }

    /// Installs them where they are missing; `None` where no Python of a fitting version is there. Running it again
    /// does nothing.
    ///
    /// # Errors
    /// There is such a Python, and the packages cannot be installed with it.
    pub(crate) fn install(&self, target: &Path) -> Result<Option<PathBuf>> {
        fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
        let lock =
            File::create(target.join(format!("{}.lock", self.name))).context("cannot create the lock")?;
        lock.lock().context("cannot wait for another installation")?;
        if let Some(installed) = self.installed(target) {
            return Ok(Some(installed));
        }
        let Some(python) = find(self.versions) else {
            return Ok(None);
        };
        let folder = self.folder(target);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Step::new("Python environment", &text(&python), "-m venv").args([text(&folder)]).run(target)?;
        let wanted = folder.join("wanted.txt");
        fs::write(&wanted, self.requirements).context("cannot write the list of packages")?;
        let pip =
            Step::new(self.title, &text(&folder.join("bin/python")), "-m pip install --quiet --no-deps -r");
        pip.args([text(&wanted)]).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").run(target)?;
        // Only now it counts as installed.
        fs::rename(&wanted, folder.join("requirements.txt")).context("cannot mark it as installed")?;
        Ok(Some(folder))
    }
}

/// A Python of a fitting version that can make virtual environments: on the path, or pyenv's.
pub(crate) fn find(versions: &str) -> Option<PathBuf> {
    let mut candidates = vec![PathBuf::from("python3"), PathBuf::from("python3.12")];
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    for root in std::env::var_os("PYENV_ROOT").map(PathBuf::from).into_iter().chain(home) {
        let installed = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = installed.map(|version| version.path().join("bin/python")).collect();
        paths.sort();
        candidates.extend(paths);
    }
    candidates.into_iter().find(|python| fits(python, versions))
}

fn fits(python: &Path, versions: &str) -> bool {
    let asks = format!("import sys, venv, ensurepip; sys.exit(not (sys.version_info[:2] {versions}))");
    setup::succeeds(Command::new(python).args(["-c", &asks]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_python_of_the_version_is_not_taken() {
        assert!(!fits(Path::new("no-such-python"), ">= (3, 0)"));
        assert!(!fits(Path::new("false"), ">= (3, 0)"));
        assert_eq!(find("== (2, 6)"), None);
    }
}
