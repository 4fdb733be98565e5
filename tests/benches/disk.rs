//! How many durable appends a second the disk under the temporary folder makes.
//!
//! Every acknowledged submission waits for such an append, so this is what the other benches are read against:
//! one append each cannot beat it, and group commit shows by how much it does.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::Settings;
use crate::clock::median_rate;
use crate::report::Measurement;

/// A page of a database's log.
const PAGE: [u8; 4096] = [0x5a; 4096];

const RUNS: usize = 5;

/// Measures appends of one page, each flushed before the next.
///
/// # Errors
/// The temporary folder cannot be written.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let appends: u32 = if settings.quick { 100 } else { 1000 };
    let mut file = tempfile::tempfile().context("cannot write the temporary folder")?;
    let value = median_rate(RUNS, || {
        for _ in 0..appends {
            file.write_all(&PAGE)?;
            file.sync_data()?;
        }
        Ok(appends)
    })?;
    Ok(vec![Measurement { metric: "durable appends of 4 KiB".into(), value, unit: "appends/s", peer: None }])
}
