//! The files of the checkout, as paths relative to its root. Hidden folders and build output are not looked at.

use std::path::Path;

/// A text file of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Relative to the root, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// Endings of the files that people write by hand.
const WRITTEN: [&str; 9] = ["rs", "toml", "md", "sql", "sh", "yaml", "yml", "html", "tf"];

/// Every file with one of the endings, in the order of their paths.
pub(crate) fn files(endings: &[&str]) -> Vec<TextFile> {
    let root = xtask::workspace_root();
    let mut found = Vec::new();
    walk(&root, &root, endings, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no file with an ending of {endings:?} in {}", root.display());
    found
}

/// Every file that people write by hand.
pub(crate) fn written_files() -> Vec<TextFile> {
    files(&WRITTEN)
}

/// The names in the root folder: folders with a `/` at the end.
pub(crate) fn top_level() -> Vec<String> {
    let root = xtask::workspace_root();
    let entries = std::fs::read_dir(&root).expect("the root of the checkout can be read");
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { format!("{name}/") } else { name }
    };
    entries.map(|entry| name(entry.expect("an entry of the root can be read"))).collect()
}

fn walk(root: &Path, dir: &Path, endings: &[&str], found: &mut Vec<TextFile>) {
    for entry in std::fs::read_dir(dir).expect("a folder of the checkout can be read") {
        let path = entry.expect("an entry of the checkout can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, endings, found);
        } else if endings.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
            // A file can go away, or be half written, while others work in the tree.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let relative = path.strip_prefix(root).expect("the walk starts at the root");
            found.push(TextFile { path: relative.to_string_lossy().into_owned(), text });
        }
    }
}
