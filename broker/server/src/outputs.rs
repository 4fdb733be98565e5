//! What jobs wrote, as their nodes sent it: one file for each part, under the data directory.
//!
//! A chunk says where it belongs, so that one sent twice changes nothing. It is on disk before it is
//! acknowledged.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use spillway_types::AttemptId;

/// The folder of outputs.
#[derive(Debug, Clone)]
pub struct Outputs {
    folder: PathBuf,
}

/// One piece of a part's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part.
    pub rank: u32,
    /// Where it begins in the part's output, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Outputs {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the output of a part is, once there is any.
    #[must_use]
    pub fn path(&self, attempt: AttemptId, rank: u32) -> PathBuf {
        let id = attempt.uuid().simple().to_string();
        // Spread by the random end of the id: one folder with a million files is slow on most file systems.
        let shard = id.get(30..).unwrap_or("00").to_owned();
        self.folder.join(shard).join(format!("{attempt}-{rank}.log"))
    }

    /// Writes chunks and makes them durable.
    ///
    /// # Errors
    /// Where the disk refuses; what was written may be written again.
    pub fn store(&self, chunks: &[Chunk]) -> io::Result<()> {
        let parts: BTreeSet<(AttemptId, u32)> =
            chunks.iter().map(|chunk| (chunk.attempt, chunk.rank)).collect();
        for (attempt, rank) in parts {
            let path = self.path(attempt, rank);
            let file = open_for_write(&path)?;
            for chunk in chunks.iter().filter(|chunk| chunk.attempt == attempt && chunk.rank == rank) {
                file.write_all_at(&chunk.data, chunk.offset)?;
            }
            file.sync_data()?;
        }
        Ok(())
    }
}

fn open_for_write(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).truncate(false).write(true).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::SequentialIds;

    #[test]
    fn chunks_land_where_they_belong_however_often_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(folder.path()).unwrap();
        let attempt = AttemptId::generate(&mut SequentialIds::new(1));
        let chunk = |offset, data: &str| Chunk { attempt, rank: 0, offset, data: data.into() };
        outputs.store(&[chunk(5, "world"), chunk(0, "hello")]).unwrap();
        outputs.store(&[chunk(0, "hello"), chunk(10, "!\n")]).unwrap();
        assert_eq!(fs::read_to_string(outputs.path(attempt, 0)).unwrap(), "helloworld!\n");
        assert!(!outputs.path(attempt, 1).exists());
    }
}
