//! A private PostgreSQL server for tests: one folder, one Unix socket in it, no port, durable as in production.
//!
//! - It runs as the user of the tests, or, for root, as `postgres` or `nobody`: PostgreSQL refuses root.
//! - It listens on a Unix socket only, so two servers can never fight for a port. [`PostgresServer::url`] is
//!   understood by libpq and by sqlx.
//! - It never outlives its owner. A small shell, the keeper, waits on a pipe that the owner holds; however the
//!   owner ends (also by SIGKILL), the pipe closes, and the keeper stops the server and removes the folder.
//!
//! Left out on purpose: passwords and TLS (the socket's folder is closed to other users), and replication.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::step::say;
use crate::wait::wait_until;

/// The variable that carries the URL of a server which is already running, from `cargo xtask` to the tests.
pub const URL_VARIABLE: &str = "SPILLWAY_TEST_POSTGRES";

/// A start takes about a second; a loaded machine may take much longer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Several brokers with a pool each, in several tests at once.
const MAX_CONNECTIONS: u32 = 400;

/// Names that other processes of this machine can have taken before us; far more than ever exist.
const NAME_TRIES: u32 = 1000;

/// Makes the cluster, runs the server, and ends it when stdin closes: that is the pipe which the owner holds.
///
/// `$1` is the folder, `$2` the folder of the binaries, `$3` the number of connections; what follows makes a command
/// run as the server's user. A shell's background processes start with SIGINT ignored, and the server takes a moment
/// to listen for it, so it is sent until the server is gone; it means the fast, orderly end.
const KEEPER: &str = r#"
dir=$1; bin=$2; connections=$3; shift 3
finish() { cd / && rm -rf "$dir"; exit "$1"; }
exec 3<&0 </dev/null
# Only the empty cluster is not flushed; the server itself flushes as in production.
"$@" "$bin/initdb" --username=spillway --auth=trust --encoding=UTF8 --locale=C --no-sync -D "$dir/data" \
    >"$dir/initdb.log" 2>&1 3<&- || { cat "$dir/initdb.log" >&2; finish 1; }
"$@" "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections="$connections" \
    >"$dir/server.log" 2>&1 3<&- &
server=$!
( read -r _ <&3; while kill -INT "$server" 2>/dev/null; do sleep 0.1; done ) &
watcher=$!
exec 3<&-
wait "$server"; status=$?
kill "$watcher" 2>/dev/null
if [ "$status" -ne 0 ]; then tail -n 20 "$dir/server.log" >&2; fi
finish "$status"
"#;

/// A running server: one that this process started and will stop, or one that was there.
#[derive(Debug)]
pub struct PostgresServer {
    url: String,
    binaries: PathBuf,
    keeper: Option<Child>,
}

impl PostgresServer {
    /// Starts a server in a new temporary folder and waits until it answers.
    ///
    /// # Errors
    /// No server binaries on this machine, or the server did not start; the error holds what it wrote.
    pub fn start() -> Result<Self> {
        let binaries =
            find_binaries().context("no PostgreSQL server found; `cargo xtask setup` installs it")?;
        let user = ServerUser::choose()?;
        let dir = new_folder(&user)?;
        let url = socket_url(&dir)?;
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&dir).arg(&binaries).arg(MAX_CONNECTIONS.to_string());
        command.args(user.prefix());
        command.current_dir(&dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Its own process group, so that Ctrl-C reaches the owner only, and the keeper does the ending in order.
        forget_settings(&mut command).process_group(0);
        let keeper = command.spawn().context("cannot start `sh`, the keeper of the PostgreSQL server")?;
        let mut server = Self { url, binaries, keeper: Some(keeper) };
        server.wait_until_ready(&dir)?;
        Ok(server)
    }

    /// A server that runs already and is not ours to stop.
    ///
    /// # Errors
    /// No `psql` on this machine, or the URL has no database to replace.
    pub fn at(url: &str) -> Result<Self> {
        with_database(url, "probe")?;
        let binaries =
            find_client().with_context(|| format!("{URL_VARIABLE} is set, but there is no `psql`"))?;
        Ok(Self { url: url.to_owned(), binaries, keeper: None })
    }

    /// The URL of the server's maintenance database, as its administrator.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes an empty database that no other test uses. It is dropped with the value.
    ///
    /// # Errors
    /// The server refused, or does not answer.
    pub fn fresh_database(&self) -> Result<FreshDatabase<'_>> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        for _ in 0..NAME_TRIES {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("t{}_{number}", std::process::id());
            match self.sql(&format!("CREATE DATABASE {name}")) {
                Ok(()) => {
                    let url = with_database(&self.url, &name)?;
                    return Ok(FreshDatabase { server: self, name, url });
                }
                // A process with our number was here before us.
                Err(error) if error.to_string().contains("already exists") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no free database name after {NAME_TRIES} tries at {}", self.url)
    }

    fn sql(&self, statement: &str) -> Result<()> {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url, "-c", statement]);
        run_quietly(forget_settings(&mut command), "psql")
    }

    fn wait_until_ready(&mut self, dir: &Path) -> Result<()> {
        let keeper = self.keeper.as_mut().expect("a server that was just started has a keeper");
        let pid_file = dir.join("data/postmaster.pid");
        let ready = wait_until("PostgreSQL to be ready", START_TIMEOUT, || {
            if let Ok(Some(status)) = keeper.try_wait() {
                return Ok(Err(status));
            }
            // Line 8 is the server's own word on its state.
            let pid_file = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let status = pid_file.lines().nth(7).unwrap_or("no state yet").trim().to_owned();
            if status == "ready" { Ok(Ok(())) } else { Err(status) }
        });
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => {
                let mut said = String::new();
                if let Some(stderr) = keeper.stderr.as_mut() {
                    stderr.read_to_string(&mut said).context("cannot read what PostgreSQL wrote")?;
                }
                bail!("PostgreSQL did not start ({status}); it wrote:\n{said}")
            }
            Err(timed_out) => Err(timed_out.into()),
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            match keeper.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    say(&format!("warning: the PostgreSQL server of the tests ended with {status}"))
                }
                Err(error) => say(&format!("warning: cannot wait for the keeper of PostgreSQL: {error}")),
            }
        }
    }
}

/// An empty database of one test.
#[derive(Debug)]
pub struct FreshDatabase<'a> {
    server: &'a PostgresServer,
    name: String,
    url: String,
}

impl FreshDatabase<'_> {
    /// Its URL, for the broker's configuration.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for FreshDatabase<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.server.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            say(&format!("warning: the database {} of a test stays behind: {error:#}", self.name));
        }
    }
}

/// The folder with `initdb`, `postgres` and `psql`; the newest of several installed.
#[must_use]
pub fn find_binaries() -> Option<PathBuf> {
    folders()
        .into_iter()
        .find(|dir| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).is_file()))
}

fn find_client() -> Option<PathBuf> {
    folders().into_iter().find(|dir| dir.join("psql").is_file())
}

/// Where to look: the search path, then where Debian and Red Hat keep each version.
fn folders() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix(prefix).and_then(|version| version.parse().ok()) {
                versions.push((version, entry.path().join("bin")));
            }
        }
    }
    versions.sort();
    found.extend(versions.into_iter().rev().map(|(_, dir)| dir));
    found
}

/// As whom the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ServerUser {
    /// As whoever runs the tests.
    Own,
    /// As somebody without rights, because the tests run as root.
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    fn choose() -> Result<Self> {
        if id(&["-u"])? != 0 {
            return Ok(Self::Own);
        }
        for name in ["postgres", "nobody"] {
            if let Ok(uid) = id(&["-u", name]) {
                return Ok(Self::Other { uid, gid: id(&["-g", name])? });
            }
        }
        bail!(
            "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as"
        )
    }

    fn prefix(&self) -> Vec<String> {
        match self {
            Self::Own => Vec::new(),
            Self::Other { uid, gid } => {
                let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
                let words = ["setpriv".to_owned()].into_iter().chain(ids);
                words.chain(["--clear-groups".to_owned(), "--".to_owned()]).collect()
            }
        }
    }
}

fn id(args: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(args).output().context("cannot start `id`")?;
    ensure!(output.status.success(), "`id {}` failed", args.join(" "));
    String::from_utf8_lossy(&output.stdout).trim().parse().context("`id` printed no number")
}

/// A folder that only the server's user (and root) can enter.
fn new_folder(user: &ServerUser) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    for _ in 0..NAME_TRIES {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("spillway-pg-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {
                if let ServerUser::Other { uid, gid } = user {
                    std::os::unix::fs::chown(&dir, Some(*uid), Some(*gid))
                        .with_context(|| format!("cannot give {} to the server's user", dir.display()))?;
                }
                return Ok(dir);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", dir.display())),
        }
    }
    bail!("no free folder name after {NAME_TRIES} tries in {}", std::env::temp_dir().display())
}

/// A developer's own `PGHOST`, `PGDATA` and so on must not reach the private server.
fn forget_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

fn run_quietly(command: &mut Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, said.trim());
    Ok(())
}

fn socket_url(dir: &Path) -> Result<String> {
    let path = dir.to_str().unwrap_or_default();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    ensure!(
        path.starts_with('/') && path.chars().all(plain),
        "the temporary folder {} has characters that a URL cannot hold; set TMPDIR to a plainer one",
        dir.display()
    );
    Ok(format!("postgres://spillway@localhost:5432/postgres?host={path}"))
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> Result<String> {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let (server, _) = base
        .rsplit_once('/')
        .filter(|(server, _)| server.contains("://") && !server.ends_with('/'))
        .with_context(|| {
            format!("`{url}` is no URL of a database: postgres://USER@HOST/DATABASE is expected")
        })?;
    Ok(query.map_or_else(|| format!("{server}/{name}"), |query| format!("{server}/{name}?{query}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let cases = [
            ("postgres://u@h/postgres", Some("postgres://u@h/x")),
            (
                "postgres://u:p@h:5432/postgres?host=/tmp/a&b=c",
                Some("postgres://u:p@h:5432/x?host=/tmp/a&b=c"),
            ),
            ("postgres://h", None),
            ("postgres", None),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "x").ok().as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_folder_that_does_not_fit_into_a_url_is_refused() {
        assert!(socket_url(Path::new("/tmp/a-b_c.d/1")).is_ok());
        for dir in ["/tmp/a b", "/tmp/a&b", "relative", "/tmp/ü"] {
            assert!(socket_url(Path::new(dir)).is_err(), "{dir}");
        }
    }

    #[test]
    fn only_root_needs_somebody_else() {
        assert!(ServerUser::Own.prefix().is_empty());
        let prefix = ServerUser::Other { uid: 7, gid: 8 }.prefix();
        assert_eq!(prefix, ["setpriv", "--reuid=7", "--regid=8", "--clear-groups", "--"]);
    }
}
