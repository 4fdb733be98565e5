//! Where the built binaries are.
//!
//! Cargo tells a test the path of a binary only inside the binary's own package. A test executable lies in
//! `target/PROFILE/deps/`, the binaries one folder up: that is stable and needs no variable.

use std::path::{Path, PathBuf};

/// The binary `spillway`.
///
/// # Panics
/// It is not built; the panic says how to build it.
#[must_use]
pub fn spillway() -> PathBuf {
    binary("spillway")
}

/// The binary `spillway-agent`.
///
/// # Panics
/// It is not built; the panic says how to build it.
#[must_use]
pub fn spillway_agent() -> PathBuf {
    binary("spillway-agent")
}

/// A binary of this workspace, by the name of its package.
///
/// # Panics
/// It is not built; the panic says how to build it.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("a test cannot find itself: {error}"));
    beside(&test, name).unwrap_or_else(|error| panic!("{error}"))
}

fn beside(test: &Path, name: &str) -> Result<PathBuf, String> {
    let dir = test.parent().map(|dir| if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir });
    let path = dir.unwrap_or_else(|| Path::new("")).join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} is not built; `cargo build -p {name}` builds it, `cargo xtask test` does so by itself",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_lies_beside_or_above_its_test() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("deps")).expect("a folder in it");
        std::fs::write(dir.path().join("tool"), "").expect("a file in it");
        for test in ["deps/test-1", "test-1"] {
            assert_eq!(beside(&dir.path().join(test), "tool"), Ok(dir.path().join("tool")), "{test}");
        }
    }

    #[test]
    fn a_missing_binary_says_how_to_build_it() {
        let error = beside(Path::new("/nowhere/deps/test-1"), "spillway").expect_err("nothing is there");
        assert!(error.contains("/nowhere/spillway is not built; `cargo build -p spillway`"), "{error}");
    }
}
