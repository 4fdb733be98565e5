//! `spillway export focus`: the charges of a month as a FOCUS file with its manifest.
//!
//! Page by page, so that a month of any length is exported in little memory. The manifest is written last: a folder
//! without one holds no whole export. What was begun and could not be ended is removed again.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use spillway_api::Client;
use spillway_api::v1::MonthView;
use spillway_focus::{Exporter, FromLedger, Manifest, Scope, Status};
use spillway_ledger::journal::Digest;
use spillway_types::Currency;

use crate::args::ledger::{FileFormat, FocusExportArgs};
use crate::failure::Failure;
use crate::output::{Look, Output};

/// What the manifest is called.
const MANIFEST: &str = "manifest.json";

pub(super) async fn run(client: &Client, args: &FocusExportArgs, output: &mut Output) -> Result<(), Failure> {
    let month = client.period(args.period).await?;
    let mut folder = Folder::begin(&args.out)?;
    let manifest = export(client, args, &month, &mut folder).await?;
    let text = serde_json::to_string_pretty(&manifest).context("the manifest cannot be written as JSON")?;
    let path = folder.path(MANIFEST);
    fs::write(&path, format!("{text}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    folder.is_whole = true;
    output.show(&manifest, |_: &Look, manifest| render(&args.out, manifest));
    output.talk(&summary(args, &month, &manifest));
    Ok(())
}

async fn export(
    client: &Client,
    args: &FocusExportArgs,
    month: &MonthView,
    folder: &mut Folder,
) -> Result<Manifest, Failure> {
    let wrong = |error| anyhow::Error::new(error).context(format!("cannot export {}", args.period));
    let charges = FromLedger::new(month.period, month.zone.clone(), Currency::USD);
    let mut charges = charges.map_err(anyhow::Error::from)?;
    let status = if month.closed_at.is_some() { Status::Closed } else { Status::Provisional };
    let scope = Scope { version: args.version, period: charges.billing(), status, currency: Currency::USD };
    let mut exporter = begin(args, scope, folder)?;
    let mut after = 0;
    'pages: loop {
        let page = client.booked(month.period, after).await?;
        let Some(last) = page.items.last() else { break };
        after = last.seq;
        for view in page.items {
            // What is booked into an open month while it is exported belongs to the next export of it.
            if status == Status::Provisional && view.seq > month.newest_record {
                break 'pages;
            }
            let record = view.record(Digest::default());
            for charge in charges.record(&record).map_err(anyhow::Error::from)? {
                exporter.push(&charge).map_err(wrong)?;
            }
        }
    }
    if let Some(charge) = charges.finish() {
        exporter.push(&charge).map_err(wrong)?;
    }
    Ok(exporter.finish().map_err(wrong)?)
}

fn begin(
    args: &FocusExportArgs,
    scope: Scope,
    folder: &mut Folder,
) -> Result<Exporter<BufWriter<File>>, Failure> {
    let ending = match args.format {
        FileFormat::Csv => "csv",
        FileFormat::Parquet => "parquet",
    };
    let name = format!("focus-{}.{ending}", args.period);
    let file = BufWriter::new(folder.create(&name)?);
    let begun = match args.format {
        FileFormat::Csv => Exporter::new(scope, &name, file),
        FileFormat::Parquet => Exporter::parquet(scope, &name, file),
    };
    Ok(begun.with_context(|| format!("cannot write {}", folder.path(&name).display()))?)
}

/// The folder of an export while it is written.
struct Folder {
    path: PathBuf,
    /// Whether it was made for this export.
    is_new: bool,
    files: Vec<PathBuf>,
    is_whole: bool,
}

impl Folder {
    /// Makes the folder, or takes one that has nothing in it.
    fn begin(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let refused = |problem: String| Failure::usage("--out", &name, problem);
        let is_new = match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => false,
            Ok(false) => {
                let problem = "is not empty: name a new folder, or one with nothing in it";
                return Err(refused(problem.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(|error| refused(format!("cannot be made: {error}")))?;
                true
            }
            Err(error) => return Err(refused(format!("cannot be used as a folder: {error}"))),
        };
        Ok(Self { path: path.to_owned(), is_new, files: vec![], is_whole: false })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn create(&mut self, name: &str) -> Result<File, Failure> {
        let path = self.path(name);
        let file = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        self.files.push(path);
        Ok(file)
    }
}

impl Drop for Folder {
    /// Takes back what is no whole export. What cannot be removed has no manifest beside it, which says as much.
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        for file in &self.files {
            fs::remove_file(file).ok();
        }
        if self.is_new {
            fs::remove_dir(&self.path).ok();
        }
    }
}

fn render(out: &Path, manifest: &Manifest) -> String {
    let names = manifest.files.iter().map(|file| file.name.as_str()).chain([MANIFEST]);
    names.map(|name| format!("{}\n", out.join(name).display())).collect()
}

fn summary(args: &FocusExportArgs, month: &MonthView, manifest: &Manifest) -> String {
    let Manifest { rows, focus_version, .. } = manifest;
    let stands = match month.closed_at {
        Some(at) => format!("closed at {at}"),
        None => "open, so the export is provisional".to_owned(),
    };
    format!("{rows} rows of FOCUS {focus_version}; {} is {stands}", args.period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_new_or_empty_and_left_as_it_was_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let (new, used) = (dir.path().join("a/b"), dir.path().join("used"));
        let mut folder = Folder::begin(&new).expect("it is made");
        folder.create("x.csv").expect("a file");
        drop(folder);
        assert!(!new.exists(), "what is not whole is taken back");
        fs::create_dir(&used).expect("a folder");
        let mut folder = Folder::begin(&used).expect("it is empty");
        folder.create("x.csv").expect("a file");
        folder.is_whole = true;
        drop(folder);
        assert!(used.join("x.csv").exists());
        for (path, problem) in [(&used, "is not empty"), (&used.join("x.csv"), "cannot be used as a folder")]
        {
            let error = Folder::begin(path).err().expect("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
