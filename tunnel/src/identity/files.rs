//! Files with secrets: readable by their owner only, and whole or absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What to do where the file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Replace it.
    Replace,
    /// Leave it and fail with [`io::ErrorKind::AlreadyExists`].
    Keep,
}

/// Writes a file with mode 0600 so that a crash leaves the old one or the new one. Makes its folder, mode
/// 0700, where it is missing.
pub(super) fn write_secret(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temporary = temporary_path(path);
    let written = write_new(&temporary, bytes).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path),
        Existing::Keep => fs::hard_link(&temporary, path),
    });
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return written.and(Err(error)),
        Ok(()) | Err(_) => written?,
    }
    File::open(dir)?.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a crash has another mode perhaps; the mode counts only when a file is made.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file's bytes; nothing where it does not exist.
pub(super) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_private_and_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/secret.pem");
        assert_eq!(read_if_there(&path).unwrap(), None);
        write_secret(&path, b"one", Existing::Keep).unwrap();
        let error = write_secret(&path, b"two", Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"one");
        write_secret(&path, b"three", Existing::Replace).unwrap();
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret.pem"], "no leftovers");
    }
}
