//! What came over the network for a part, on the disk until the broker has it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use spillway_types::DatasetName;

use super::content::{Content, length};
use crate::part::{PartKey, read_json, to_json};

/// Folder of the records, within the cache. No dataset has such a name.
const MOVES: &str = ".moves";

/// Bytes of a dataset that came for a part, one after the other.
#[derive(Debug)]
pub(crate) struct Move {
    /// The part.
    pub(crate) part: PartKey,
    /// The dataset.
    pub(crate) dataset: DatasetName,
    /// Which download of it for this part, from 0.
    pub(crate) pass: u32,
    /// The first byte.
    pub(crate) from: u64,
    to: AtomicU64,
    over: AtomicBool,
    record: PathBuf,
}

/// A move as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    part: PartKey,
    dataset: DatasetName,
    pass: u32,
    from: u64,
    /// Where it ended; none while it goes on: the file's end says it then.
    to: Option<u64>,
    partial: PathBuf,
    whole: PathBuf,
}

impl Move {
    /// Begins a move of `content`, and writes that down.
    pub(super) fn begin(
        cache: &Path,
        content: &Content,
        (part, dataset): (PartKey, &DatasetName),
        pass: u32,
        from: u64,
    ) -> io::Result<Self> {
        let folder = cache.join(MOVES);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{part}.{dataset}.{pass}-{from}.json"));
        let (partial, whole) = (content.partial(), content.whole());
        save(&path, &Record { part, dataset: dataset.clone(), pass, from, to: None, partial, whole })?;
        let (to, over) = (AtomicU64::new(from), AtomicBool::new(false));
        Ok(Self { part, dataset: dataset.clone(), pass, from, to, over, record: path })
    }

    /// The byte behind the last that came.
    pub(crate) fn to(&self) -> u64 {
        self.to.load(Ordering::Acquire)
    }

    /// Whether nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn came(&self, bytes: u64) {
        self.to.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Ends it. What was written down says so too, before another part can go on with the file.
    pub(super) fn end(&self) {
        let ended = read_json::<Record>(&self.record).and_then(|record| match record {
            Some(record) => save(&self.record, &Record { to: Some(self.to()), ..record }),
            None => Ok(()),
        });
        if let Err(error) = ended {
            tracing::error!(part = %self.part, dataset = %self.dataset, %error, "what was downloaded cannot be written down");
        }
        self.over.store(true, Ordering::Release);
    }

    /// Removes what was written down: the broker has it.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The moves that an earlier agent wrote down, all of them over now. Nothing may be downloaded before this.
pub(super) fn of_earlier(cache: &Path) -> io::Result<Vec<Move>> {
    let folder = cache.join(MOVES);
    fs::create_dir_all(&folder)?;
    let mut moves = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            fs::remove_file(path)?;
            continue;
        }
        let Some(record) = read_json::<Record>(&path).ok().flatten() else {
            tracing::warn!(path = %path.display(), "what was downloaded before cannot be read; it is not reported");
            continue;
        };
        let Record { part, dataset, pass, from, to, partial, whole } = record;
        let end = to.unwrap_or_else(|| length(&partial).max(length(&whole)).max(from));
        let (to, over) = (AtomicU64::new(end), AtomicBool::new(false));
        let found = Move { part, dataset, pass, from, to, over, record: path };
        found.end();
        moves.push(found);
    }
    moves.sort_by(|a, b| (a.part, &a.dataset, a.pass, a.from).cmp(&(b.part, &b.dataset, b.pass, b.from)));
    Ok(moves)
}

/// Writes a record, durable on return.
fn save(path: &Path, record: &Record) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&to_json(record))?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::key_of;
    use crate::reconcile::tests::{input, lease};

    #[test]
    fn what_an_earlier_agent_had_begun_ends_where_its_file_does() {
        let cache = tempfile::tempdir().unwrap();
        let wanted = input("web", 10);
        let content = Content::of(cache.path(), &wanted, "boot");
        content.prepare().unwrap();
        let part = key_of(&lease(1));
        let begin =
            |pass, from| Move::begin(cache.path(), &content, (part, &wanted.dataset), pass, from).unwrap();
        let first = begin(0, 0);
        first.came(3);
        first.end();
        begin(0, 3);
        fs::write(content.partial(), "1234567").unwrap();
        fs::write(cache.path().join(MOVES).join("x.json.new"), "half").unwrap();
        fs::write(cache.path().join(MOVES).join("y.json"), "rubbish").unwrap();
        let spans = |moves: &[Move]| -> Vec<(u64, u64, bool)> {
            moves.iter().map(|it| (it.from, it.to(), it.is_over())).collect()
        };
        let found = of_earlier(cache.path()).unwrap();
        assert_eq!(spans(&found), [(0, 3, true), (3, 7, true)]);
        fs::write(content.partial(), "123456789").unwrap();
        assert_eq!(
            spans(&of_earlier(cache.path()).unwrap()),
            spans(&found),
            "another part goes on with the file"
        );
        found.iter().for_each(|it| it.forget().unwrap());
        found.iter().for_each(|it| it.forget().unwrap());
        assert!(of_earlier(cache.path()).unwrap().is_empty());
    }
}
