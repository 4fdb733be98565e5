//! Files that appear whole or not at all, and that are known to be writable before the work begins.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// In the same folder, so that it can be moved into place at once.
    file: NamedTempFile,
}

impl Target {
    /// Makes sure that `path` can be written, without touching what is there.
    pub(super) fn open(flag: &str, path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let refused = |problem: &str| Failure::usage(flag, &shown, problem);
        if path.is_dir() {
            return Err(refused("it is a folder: name a file in it"));
        }
        if std::fs::metadata(path).is_ok_and(|there| there.permissions().readonly()) {
            return Err(refused("the file is there and must not be written"));
        }
        if path.file_name().is_none() {
            return Err(refused("it names no file"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(folder);
        let file =
            file.map_err(|error| refused(&format!("cannot write into its folder: {}", error.kind())))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes it, and moves it into place.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        let path = self.path.display().to_string();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.as_file().sync_all());
        written.with_context(|| format!("cannot write {path}"))?;
        readable(&self.file).with_context(|| format!("cannot write {path}"))?;
        self.file.persist(&self.path).with_context(|| format!("cannot write {path}"))?;
        Ok(())
    }
}

/// A temporary file is its owner's alone; a result is for others to read.
fn readable(file: &NamedTempFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// `path` where there is one name; else one path for each, with the name before the extension.
pub(super) fn one_for_each(path: &Path, names: &[&str]) -> Vec<PathBuf> {
    if let [_] = names {
        return vec![path.to_owned()];
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    let extension = extension.unwrap_or_default();
    let safe = |name: &str| name.replace(" @ ", "-").replace(['/', '\\'], "-");
    names.iter().map(|name| path.with_file_name(format!("{stem}-{}{extension}", safe(name)))).collect()
}

/// Reads a text file that a flag names.
pub(super) fn read(what: &'static str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::file(what, path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_an_unwritable_one_is_refused_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out.csv");
        let target = Target::open("--placements", &path).expect("writable");
        assert!(!path.exists());
        target.write("a,b\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "a,b\n");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
        for (path, says) in [
            (dir.path().to_owned(), "it is a folder"),
            (dir.path().join("not/here.svg"), "cannot write into its folder"),
        ] {
            let failure = Target::open("--svg", &path).expect_err("refused");
            assert_eq!(failure.exit_code(), crate::failure::USAGE);
            assert!(
                failure.render().contains(says) && failure.render().contains("--svg"),
                "{}",
                failure.render()
            );
        }
    }

    #[test]
    fn several_policies_have_a_file_each() {
        let path = Path::new("/tmp/out.csv");
        assert_eq!(one_for_each(path, &["a"]), [path]);
        let paths = one_for_each(path, &["a", "b/c"]);
        assert_eq!(paths, [Path::new("/tmp/out-a.csv"), Path::new("/tmp/out-b-c.csv")]);
    }
}
