//! Rules for the names of the columns.

use std::collections::BTreeMap;

use super::{Findings, Rule};
use crate::column::{COLUMNS, Column, OWN_COLUMNS, Version};

/// The columns of a file that are known.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: Version,
    /// By place in the file.
    pub(super) columns: Vec<Option<&'static Column>>,
    places: BTreeMap<&'static str, usize>,
}

/// The version whose columns a file has.
pub(super) fn guess_version(names: &[String]) -> Version {
    let new =
        |name: &String| COLUMNS.iter().any(|column| column.since == Version::V1_3 && column.name == name);
    if names.iter().any(new) { Version::V1_3 } else { Version::V1_2 }
}

impl Header {
    pub(super) fn check(version: Version, names: &[String], findings: &mut Findings) -> Self {
        let mut header = Self { version, columns: Vec::new(), places: BTreeMap::new() };
        let mut first_custom: Option<&str> = None;
        for (place, name) in names.iter().enumerate() {
            let known = version.columns().chain(&OWN_COLUMNS).find(|column| column.name == name);
            let custom = name.starts_with("x_");
            if !custom && known.is_none() {
                findings.add(Rule::UnknownColumn, name, "", unknown(version, name));
            }
            if custom {
                first_custom = first_custom.or(Some(name));
            } else if let (Some(before), true) = (first_custom, known.is_some()) {
                let message = format!("it stands after `{before}`; columns of FOCUS stand before all others");
                findings.add(Rule::ColumnOrder, name, "", message);
            }
            if names.iter().take(place).any(|earlier| earlier == name) {
                findings.add(Rule::DuplicateColumn, name, "", "the column is there twice");
                header.columns.push(None);
                continue;
            }
            if let Some(column) = known {
                header.places.insert(column.name, place);
            }
            header.columns.push(known);
        }
        for column in version.columns() {
            // Who gets a file without it cannot say which invoice a row belongs to.
            let needed = column.mandatory || column.name == "InvoiceId";
            if needed && header.place(column.name).is_none() {
                let message = format!("the column is missing; FOCUS {version} needs it");
                findings.add(Rule::MissingColumn, column.name, "", message);
            }
        }
        header
    }

    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

fn unknown(version: Version, name: &str) -> String {
    if COLUMNS.iter().any(|column| column.name == name) {
        return format!("FOCUS {version} does not have this column; a later version does");
    }
    let spelt = COLUMNS.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    match spelt {
        Some(column) => format!("the column is spelt `{}`", column.name),
        None => format!("it is no column of FOCUS {version}; columns of one's own begin with `x_`"),
    }
}
