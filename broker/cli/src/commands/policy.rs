//! `spillway policy`: the policies that are shipped, and access policies held against their cases; without a broker.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use spillway_access::{Access, AccessRules, CaseReport, CaseResult, Decision};
use spillway_policies::{NAMED, Named, named};

use crate::args::{PolicyArgs, PolicyCommand};
use crate::failure::{ERROR, Failure};
use crate::output::{Look, Output};
use crate::table::Table;

/// What came of all cases of a folder.
#[derive(Debug, Serialize)]
struct Tested {
    policies: usize,
    cases: Vec<Case>,
    held: usize,
    failed: usize,
    /// Policies that decided no case: nothing holds them.
    untested: Vec<String>,
}

/// One case, as it is printed.
#[derive(Debug, Serialize)]
struct Case {
    file: String,
    line: usize,
    name: String,
    holds: bool,
    expected: Decision,
    expected_by: Vec<String>,
    got: Access,
}

impl Case {
    fn of(file: &str, case: CaseResult) -> Self {
        Self {
            file: file.to_owned(),
            line: case.line,
            holds: case.holds(),
            name: case.name,
            expected: case.expected,
            expected_by: case.expected_by,
            got: case.got,
        }
    }
}

pub(super) fn run(args: &PolicyArgs, output: &mut Output) -> Result<u8, Failure> {
    match &args.command {
        PolicyCommand::List => Ok(list(output)),
        PolicyCommand::Show { name } => show(name, output),
        PolicyCommand::Test { dir } => held(dir, output),
    }
}

/// A shipped policy, as it is listed.
#[derive(Debug, Serialize)]
struct Shipped {
    name: &'static str,
    summary: &'static str,
}

fn list(output: &mut Output) -> u8 {
    let shipped = |known: &Named| Shipped { name: known.name, summary: known.summary() };
    let all: Vec<Shipped> = NAMED.iter().map(shipped).collect();
    output.show(&all, |look, all| {
        let mut table = Table::new(look, &["#NAME", "WHAT IT DOES"]);
        for known in all {
            table.row([known.name.to_owned(), known.summary.to_owned()]);
        }
        table.lines()
    });
    0
}

fn show(name: &str, output: &mut Output) -> Result<u8, Failure> {
    let Some(known) = named(name) else {
        let names: Vec<&str> = NAMED.iter().map(|known| known.name).collect();
        let problem = format!("is not a shipped policy; there are {}", names.join(", "));
        return Err(Failure::usage("NAME", name, problem));
    };
    let policy = known.policy().map_err(anyhow::Error::from)?;
    output.show(&policy, |_, _| known.text.to_owned());
    Ok(0)
}

/// The exit code is 1 where a case does not hold.
fn held(dir: &Path, output: &mut Output) -> Result<u8, Failure> {
    let tested = test(dir)?;
    output.show(&tested, render);
    if !tested.untested.is_empty() {
        output.talk(&format!("no case is decided by: {}", tested.untested.join(", ")));
    }
    if tested.failed == 0 {
        return Ok(0);
    }
    output.talk(&format!("{} of {} cases do not hold", tested.failed, tested.cases.len()));
    Ok(ERROR)
}

fn test(dir: &Path) -> Result<Tested, Failure> {
    let policies = texts(dir, ".cedar", "policy")?;
    let sources: Vec<(&str, &str)> =
        policies.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let rules = AccessRules::from_sources(&sources).map_err(anyhow::Error::from)?;
    let mut cases = Vec::new();
    for (file, text) in texts(dir, ".cases.toml", "case")? {
        let CaseReport { file, cases: found } =
            rules.check_cases(&file, &text).map_err(anyhow::Error::from)?;
        cases.extend(found.into_iter().map(|case| Case::of(&file, case)));
    }
    let decided: BTreeSet<&String> = cases.iter().flat_map(|case| &case.got.by).collect();
    let untested = rules.ids().iter().filter(|id| !decided.contains(id)).cloned().collect();
    let failed = cases.iter().filter(|case| !case.holds).count();
    Ok(Tested { policies: rules.ids().len(), held: cases.len() - failed, failed, untested, cases })
}

/// The files of a folder with this ending, by name, with their texts; there must be one.
fn texts(dir: &Path, ending: &str, what: &'static str) -> Result<Vec<(String, String)>, Failure> {
    let listed = || -> std::io::Result<BTreeSet<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let paths = listed().map_err(|source| Failure::file("folder", dir, source))?;
    let mut texts = Vec::new();
    for path in paths.into_iter().filter(|path| path.to_string_lossy().ends_with(ending)) {
        let text = fs::read_to_string(&path).map_err(|source| Failure::file("file", &path, source))?;
        texts.push((path.display().to_string(), text));
    }
    if texts.is_empty() {
        let missing = format!("there is no {what} file in it: their names end with `{ending}`");
        return Err(Failure::usage("DIR", &dir.display().to_string(), missing));
    }
    Ok(texts)
}

fn render(look: &Look, tested: &Tested) -> String {
    let mut table = Table::new(look, &["#RESULT", "CASE", "EXPECTED", "GOT", "?WHERE"]);
    for case in &tested.cases {
        let result = if case.holds { "ok" } else { "FAILED" };
        let expected = match case.expected_by.as_slice() {
            [] => case.expected.as_str().to_owned(),
            by => format!("{} by {}", case.expected.as_str(), by.join(", ")),
        };
        let place = format!("{}:{}", case.file, case.line);
        table.row([result.to_owned(), case.name.clone(), expected, case.got.sentence(), place]);
    }
    table.lines()
}
