//! Room for a download: the disk's, and what the cache may hold.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::content::length;

/// Room on the disk that downloads leave: the spool and what jobs write need some.
const SPARE_BYTES: u64 = 1024 * 1024 * 1024;

/// A content in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// All its files.
    pub(super) bytes: u64,
    /// When it was last used.
    pub(super) used: SystemTime,
}

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Free on the disk.
    pub(super) free: u64,
    /// Most bytes of the cache.
    pub(super) limit: u64,
}

/// Everything in the cache.
pub(super) fn kept(cache: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for dataset in folders(cache)? {
        for folder in folders(&dataset)? {
            let files = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
            let bytes = files.iter().map(|file| length(&file.path())).sum();
            let used = fs::metadata(&folder)?.modified()?;
            all.push(Kept { folder, bytes, used });
        }
    }
    Ok(all)
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Free bytes of the disk that a folder is on.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What to remove so that `more` bytes fit, the longest unused first and nothing that is `needed`.
///
/// # Errors
/// Why it does not help, for people.
pub(super) fn evict(
    kept: &[Kept],
    needed: &BTreeSet<PathBuf>,
    more: u64,
    room: Room,
) -> Result<Vec<PathBuf>, String> {
    let mut held: u64 = kept.iter().map(|content| content.bytes).sum();
    let mut free = room.free;
    let mut idle: Vec<&Kept> = kept.iter().filter(|content| !needed.contains(&content.folder)).collect();
    idle.sort_by(|a, b| (a.used, &a.folder).cmp(&(b.used, &b.folder)));
    let (mut idle, mut gone) = (idle.into_iter(), Vec::new());
    loop {
        let (full, short) = (held.saturating_add(more) > room.limit, more.saturating_add(SPARE_BYTES) > free);
        if !full && !short {
            return Ok(gone);
        }
        match idle.next() {
            Some(content) => {
                (held, free) = (held - content.bytes, free.saturating_add(content.bytes));
                gone.push(content.folder.clone());
            }
            None if full => {
                let limit = room.limit;
                return Err(format!(
                    "{more} bytes more are over the {limit} that may be kept here, with what other jobs read: start this node's agent with a larger --dataset-cache"
                ));
            }
            None => {
                return Err(format!(
                    "{more} bytes more do not fit on this node's disk: {free} are free, and {SPARE_BYTES} stay so"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_longest_unused_goes_and_what_is_read_stays() {
        let content = |name: &str, bytes, used| Kept {
            folder: name.into(),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
        };
        let kept = [content("a", 10, 3), content("b", 20, 1), content("c", 30, 2)];
        let needed = BTreeSet::from([PathBuf::from("b")]);
        let plenty = u64::MAX;
        for (more, free, limit, expected) in [
            (40, plenty, 100, Ok("")),
            (41, plenty, 100, Ok("c")),
            (71, plenty, 100, Ok("c a")),
            (81, plenty, 100, Err("over the 100 that may be kept")),
            (5, SPARE_BYTES + 5, 100, Ok("")),
            (6, SPARE_BYTES + 5, 100, Ok("c")),
            (46, SPARE_BYTES + 5, 1000, Err("do not fit on this node's disk")),
        ] {
            let gone = evict(&kept, &needed, more, Room { free, limit });
            let names = |gone: Vec<PathBuf>| {
                gone.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ")
            };
            match (gone.map(names), expected) {
                (Ok(gone), Ok(expected)) => assert_eq!(gone, expected, "{more} {free} {limit}"),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (gone, expected) => panic!("{gone:?} is not {expected:?}"),
            }
        }
    }
}
