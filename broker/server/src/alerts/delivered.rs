//! What was delivered where, so that nobody is told twice after a restart: a file of lines, one for each delivery,
//! written and on the disk before the alert is forgotten.
//!
//! A line that a crash cut off is passed over: its alert is sent once more, under the same key.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, UnixMs};

/// So long after its window a delivery is remembered: clocks that differ, and a broker that was away, change nothing.
const KEPT_AFTER: DurationMs = DurationMs::from_secs(7 * 24 * 3600);

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    to: String,
    key: String,
    until: i64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Delivered {
    file: File,
    /// What was in it when it was opened, by destination and key.
    known: BTreeSet<(String, String)>,
}

impl Delivered {
    /// Opens or makes the file, and leaves out what nobody will ask for any more.
    pub(super) fn open(path: &Path, now: UnixMs) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
        let rows: Vec<Row> = rows.filter(|row| now < UnixMs(row.until).plus(KEPT_AFTER)).collect();
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        for row in &rows {
            write_row(&mut file, row)?;
        }
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, known: rows.into_iter().map(|row| (row.to, row.key)).collect() })
    }

    /// The keys that were delivered to a destination.
    pub(super) fn of(&self, to: &str) -> BTreeSet<String> {
        self.known.iter().filter(|(known, _)| known == to).map(|(_, key)| key.clone()).collect()
    }

    /// Notes a delivery. It is on the disk when this returns.
    pub(super) fn note(&mut self, to: &str, key: &str, until: UnixMs) -> io::Result<()> {
        let row = Row { to: to.to_owned(), key: key.to_owned(), until: until.0 };
        write_row(&mut self.file, &row)?;
        self.file.sync_data()
    }
}

fn write_row(file: &mut File, row: &Row) -> io::Result<()> {
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_768_000_000_000);

    #[test]
    fn what_was_delivered_is_known_after_a_restart_until_its_window_is_long_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delivered");
        let mut first = Delivered::open(&path, NOW).unwrap();
        first.note("mail", "a", UnixMs(NOW.0 + 1000)).unwrap();
        first.note("hook", "b", UnixMs(NOW.0 + 86_400_000)).unwrap();
        drop(first);
        // The next write was cut off by a crash.
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"to\":\"mail\",\"key\":\"c\",\"un").unwrap();
        let again = Delivered::open(&path, NOW).unwrap();
        assert_eq!((again.of("mail").len(), again.of("hook").len(), again.of("moon").len()), (1, 1, 0));
        drop(again);
        let later = UnixMs(NOW.0 + 1000).plus(KEPT_AFTER);
        let mut later = Delivered::open(&path, later).unwrap();
        assert_eq!((later.of("mail").len(), later.of("hook").len()), (0, 1));
        later.note("mail", "d", UnixMs(NOW.0 + 1_000_000_000_000)).unwrap();
        assert_eq!(Delivered::open(&path, NOW).unwrap().of("mail"), BTreeSet::from(["d".to_owned()]));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2, "lines are whole again");
    }
}
