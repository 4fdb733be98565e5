//! DuckDB, in a virtual environment under `target/`: a database of somebody else's, which reads what we export and adds
//! it up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::python::Packages;
use crate::step::say;

const PACKAGES: Packages = Packages {
    name: "duckdb",
    title: "DuckDB",
    requirements: "duckdb==2.0.0\n",
    // Those that it has wheels for.
    versions: "in [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)]",
};

/// What is said where there is no Python for it.
pub const LEFT_OUT: &str = "no Python 3.10 to 3.14 with venv here: DuckDB, which adds up the export as a judge, is left out \
     (Debian calls the packages python3 and python3-venv)";

/// Writes each row of the answer as one line, its values with tabs between; nothing is an empty value.
const PROGRAM: &str = "\
import duckdb, sys
for row in duckdb.connect().execute(sys.stdin.read()).fetchall():
    print(*('' if value is None else value for value in row), sep='\\t')
";

/// An installed DuckDB.
#[derive(Debug, Clone)]
pub struct DuckDb {
    folder: PathBuf,
}

impl DuckDb {
    /// The one that is installed, if it is.
    #[must_use]
    pub fn installed(target: &Path) -> Option<Self> {
        PACKAGES.installed(target).map(|folder| Self { folder })
    }

    /// Installs it where it is missing; `None` where there is no Python for it. Running it again does nothing.
    ///
    /// # Errors
    /// There is a Python, and the package cannot be installed with it.
    pub fn install(target: &Path) -> Result<Option<Self>> {
        Ok(PACKAGES.install(target)?.map(|folder| Self { folder }))
    }

    /// The rows of an answer, their values as texts. Files in the statement are given as whole paths.
    ///
    /// # Errors
    /// It could not be started, or refused the statement; the error has what it said.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut child = Command::new(self.folder.join("bin/python"))
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start DuckDB's Python")?;
        let mut input = child.stdin.take().context("it has no input")?;
        // It reads the whole statement before it writes anything.
        std::io::Write::write_all(&mut input, sql.as_bytes()).context("cannot give it the statement")?;
        drop(input);
        let output = child.wait_with_output().context("cannot wait for DuckDB")?;
        if !output.status.success() {
            bail!("DuckDB refused `{sql}`:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout).context("its answer is not UTF-8")?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}

/// Installs it as part of the set-up, and says where it is left out.
///
/// # Errors
/// As [`DuckDb::install`].
pub fn set_up(target: &Path) -> Result<()> {
    if DuckDb::install(target)?.is_none() {
        say(&format!("    {LEFT_OUT}"));
    }
    Ok(())
}
