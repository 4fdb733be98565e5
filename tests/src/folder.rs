//! A temporary folder, and nothing that lives in it outlives it.
//!
//! What an agent or a machine of the local cloud starts gets an environment and a session of its own, so neither
//! a process group nor a tag finds it. But it works in a folder below the test's, or names one in its arguments:
//! that is how it is found here. Dropping the folder kills what is found; a small shell does the same when the
//! test's process was killed.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// `$1` is the folder. Several passes, because a process may fork during one.
const WATCH: &str = r#"
read -r _
for pass in 1 2 3; do
    for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd" 2>/dev/null)/" in
            "$1"/*) kill -KILL "${process#/proc/}" 2>/dev/null ;;
            *) tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qF -- "$1/" && kill -KILL "${process#/proc/}" 2>/dev/null ;;
        esac
    done
done
rm -rf -- "$1"
"#;

/// A fork during a pass needs another pass; no program under test forks this often.
const PASSES: u32 = 50;

/// A process that lives in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its arguments, with blanks between.
    pub command: String,
}

/// See the module.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    watch: Child,
    _folder: tempfile::TempDir,
}

impl Folder {
    /// A new, empty one.
    ///
    /// # Panics
    /// The disk or the system refuses.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("spillway-test-").tempdir();
        let folder = folder.unwrap_or_else(|error| panic!("cannot make a temporary folder: {error}"));
        let path = folder.path().canonicalize();
        let path = path.unwrap_or_else(|error| panic!("cannot find the temporary folder: {error}"));
        let watch = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let watch = watch.unwrap_or_else(|error| panic!("cannot start `sh`, the folder's watch: {error}"));
        Self { path, watch, _folder: folder }
    }

    /// Where it is, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every living process that works below it, or names something below it.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        below(&self.path)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The watch waits for the end of this process: it has nothing left to do.
        self.watch.kill().ok();
        self.watch.wait().ok();
        for _ in 0..PASSES {
            let left = below(&self.path);
            if left.is_empty() {
                break;
            }
            for pid in left.iter().filter_map(|process| Pid::from_raw(process.pid)) {
                // Gone already is as good as killed.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

fn below(folder: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| look(folder, pid).ok().flatten()).collect()
}

/// An error means that the process has ended, or is somebody else's.
fn look(folder: &Path, pid: i32) -> io::Result<Option<Process>> {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let command = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    // A zombie has no arguments.
    if command.is_empty() {
        return Ok(None);
    }
    let names_it = command.contains(&format!("{}/", folder.display()));
    let works_there =
        || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    Ok((names_it || works_there()).then_some(Process { pid, command }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_for;
    use std::time::Duration;

    fn sleeper(folder: &Folder) -> Child {
        let inside = folder.path().join("inside");
        std::fs::create_dir_all(&inside).expect("a folder");
        let mut command = Command::new("setsid");
        command.args(["-f", "env", "-i", "sleep", "600"]).current_dir(inside);
        command.spawn().expect("setsid starts")
    }

    #[test]
    fn what_lives_in_a_folder_ends_with_it() {
        let (mine, other) = (Folder::new(), Folder::new());
        for folder in [&mine, &other] {
            assert!(sleeper(folder).wait().expect("it forks").success());
        }
        let one = |folder: &Folder| match folder.processes().as_slice() {
            [one] if one.command == "sleep 600" => Ok(one.pid),
            found => Err(format!("{found:?}")),
        };
        let [gone, stays] =
            [&mine, &other].map(|folder| wait_for("the sleeper", Duration::from_secs(10), || one(folder)));
        let path = mine.path().to_owned();
        drop(mine);
        assert!(!path.exists());
        wait_for("the end", Duration::from_secs(10), || {
            let stat = std::fs::read_to_string(format!("/proc/{gone}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z") { Ok(()) } else { Err(stat) }
        });
        assert_eq!(one(&other), Ok(stays), "another folder's process was killed");
    }

    #[test]
    fn a_folder_whose_owner_was_killed_is_cleaned_up() {
        let folder = Folder::new();
        assert!(sleeper(&folder).wait().expect("it forks").success());
        wait_for("the sleeper", Duration::from_secs(10), || {
            if folder.processes().len() == 1 { Ok(()) } else { Err("not there".to_owned()) }
        });
        let mut folder = std::mem::ManuallyDrop::new(folder);
        // As the kernel does for a process that was killed.
        drop(folder.watch.stdin.take());
        assert!(folder.watch.wait().expect("the watch ends").success());
        assert!(!folder.path.exists());
        assert_eq!(below(&folder.path), []);
    }
}
