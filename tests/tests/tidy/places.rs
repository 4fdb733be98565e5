//! Rules for the checkout as a whole: which folders there are, no path of somebody's machine, and commands in the
//! documents that exist.

use crate::Violation;
use crate::tree::{TextFile, files, top_level, written_files};

/// The folders of the house. Hidden ones belong to tools.
const FOLDERS: [&str; 7] =
    ["broker/", "connectors/", "edge-agent/", "tunnel/", "policies/", "tests/", "deploy/"];

fn check_folders(top_level: &[String], ignored: &str) -> Vec<Violation> {
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_start_matches('/')).collect();
    let folders = top_level.iter().filter(|name| name.ends_with('/') && !name.starts_with('.'));
    let strange =
        folders.filter(|name| !FOLDERS.contains(&name.as_str()) && !ignored.contains(&name.as_str()));
    strange
        .map(|name| Violation::new(name, 1, "no folder of the house; it belongs inside one of them"))
        .collect()
}

/// Starts of paths that exist on one machine only: the checkout and the home folder of who runs the tests. One
/// word (`/src`) is too little to tell a machine by.
fn machine_paths() -> Vec<String> {
    let root = xtask::workspace_root().to_string_lossy().into_owned();
    let home = std::env::var("HOME").unwrap_or_default();
    let telling = |path: &String| path.matches('/').count() >= 2 && !path.ends_with('/');
    let mut paths: Vec<String> = [root, home].into_iter().filter(telling).collect();
    paths.push(["", "Users", ""].join("/"));
    paths
}

fn check_paths(file: &TextFile, machine_paths: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for path in machine_paths.iter().filter(|path| line.contains(path.as_str())) {
            let what = format!("`{path}` exists on one machine only");
            violations.push(Violation::new(&file.path, index + 1, what));
        }
    }
    violations
}

/// Every `cargo xtask WORD` must be a subcommand.
fn check_commands(file: &TextFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for rest in line.split("cargo xtask ").skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            if !word.is_empty() && !xtask::cli::COMMANDS.contains(&word.as_str()) {
                let what = format!("`cargo xtask {word}` does not exist");
                violations.push(Violation::new(&file.path, index + 1, what));
            }
        }
    }
    violations
}

#[test]
fn the_house_has_its_folders_and_no_other() {
    let ignored = std::fs::read_to_string(xtask::workspace_root().join(".gitignore")).unwrap();
    crate::none(check_folders(&top_level(), &ignored));
}

#[test]
fn no_file_names_a_path_of_this_machine() {
    let paths = machine_paths();
    crate::none(written_files().iter().flat_map(|file| check_paths(file, &paths)).collect());
}

#[test]
fn documents_name_commands_that_exist() {
    crate::none(files(&["md"]).iter().flat_map(check_commands).collect());
}

#[test]
fn a_strange_folder_is_found() {
    let names = ["broker/", "src/", "target/", ".git/", "README.md"].map(str::to_owned);
    let found: Vec<String> =
        check_folders(&names, "/target/\n*.profraw\n").into_iter().map(|it| it.path).collect();
    assert_eq!(found, ["src/"]);
}

#[test]
fn a_path_of_a_machine_is_found() {
    let root = xtask::workspace_root().to_string_lossy().into_owned();
    let home = ["", "Users", "x"].join("/");
    let file = TextFile::new("x.md", &format!("fine\nsee {root}/target\n{home}\n/var/lib/spillway\n"));
    let paths = vec![root.clone(), ["", "Users", ""].join("/")];
    let found = crate::sentences(&check_paths(&file, &paths));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|found| found.starts_with(&format!("2: `{root}`"))), "{found:?}");
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let file = TextFile::new(
        "README.md",
        "`cargo xtask ci`\n`cargo xtask deploy`, `cargo xtask`\ncargo xtask bench x\n",
    );
    assert_eq!(crate::sentences(&check_commands(&file)), ["2: `cargo xtask deploy` does not exist"]);
}
