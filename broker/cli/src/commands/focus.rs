//! `spillway focus`: FOCUS files of any maker, held against the specification; without a broker.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use anyhow::Context as _;
use spillway_focus::{Finding, Manifest, Report, Version, check_csv, check_parquet};

use crate::args::{FocusArgs, FocusCheckArgs, FocusCommand};
use crate::failure::{ERROR, Failure};
use crate::output::{Look, Output};
use crate::table::Table;

/// What a Parquet file begins with.
const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

pub(super) fn run(args: &FocusArgs, output: &mut Output) -> Result<u8, Failure> {
    match &args.command {
        FocusCommand::Check(args) => check(args, output),
    }
}

/// The exit code is 1 where something is wrong.
fn check(args: &FocusCheckArgs, output: &mut Output) -> Result<u8, Failure> {
    let manifest = args.manifest.as_deref().map(read_manifest).transpose()?;
    let report = report(&args.file, args.version, manifest.as_ref())?;
    output.show(&report, render);
    output.talk(&summary(&report));
    Ok(if report.findings.is_empty() { 0 } else { ERROR })
}

fn read_manifest(path: &Path) -> Result<Manifest, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::file("manifest", path, source))?;
    serde_json::from_str(&text).map_err(|error| {
        let problem = format!("is not the manifest of an export: {error}");
        Failure::usage("--manifest", &path.display().to_string(), problem)
    })
}

fn report(path: &Path, version: Option<Version>, manifest: Option<&Manifest>) -> Result<Report, Failure> {
    let open = || -> std::io::Result<(File, bool)> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(PARQUET_MAGIC.len() as u64).read_to_end(&mut start)?;
        file.rewind()?;
        Ok((file, start == PARQUET_MAGIC))
    };
    let (file, is_parquet) = open().map_err(|source| Failure::file("FOCUS file", path, source))?;
    let checked = match is_parquet {
        true => check_parquet(file, version, manifest),
        false => check_csv(file, version, manifest),
    };
    let named = || format!("cannot check {}", path.display());
    Ok(checked.with_context(named)?)
}

fn render(look: &Look, report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &[">ROW", "#COLUMN", "#RULE", "?VALUE", "WHAT IS WRONG"]);
    for Finding { row, column, rule, value, message } in &report.findings {
        let row = row.map(|row| row.to_string()).unwrap_or_default();
        let column = column.clone().unwrap_or_default();
        let value = value.clone().unwrap_or_default();
        table.row([row, column, rule.to_string(), value, message.clone()]);
    }
    table.lines()
}

fn summary(report: &Report) -> String {
    let Report { version, rows, findings, left_off } = report;
    let mut text = match findings.len() {
        0 => format!("{rows} rows of FOCUS {version}, nothing is wrong"),
        found => format!("{found} findings in {rows} rows of FOCUS {version}"),
    };
    for (rule, count) in left_off {
        text.push_str(&format!("\n{count} more of rule {rule} are not listed"));
    }
    text
}
