//! PostgreSQL for tests: one server for the run (or for this process, when nobody started one), and a fresh
//! database for each test.

use std::sync::OnceLock;

use xtask::cli::Profile;
use xtask::postgres::{FreshDatabase, PostgresServer, URL_VARIABLE, find_binaries};

use crate::profile;

/// The server of this run.
///
/// `cargo xtask test` starts one and names it in the environment; without it, this process starts its own. `None`
/// only in the quick profile on a machine without PostgreSQL; the test has then been reported as left out.
///
/// # Panics
/// There is no PostgreSQL, or it does not start.
#[must_use]
pub fn shared() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let started = match std::env::var(URL_VARIABLE) {
            Ok(url) => PostgresServer::at(&url),
            Err(_) if find_binaries().is_none() && profile::current() == Profile::Quick => return None,
            Err(_) => PostgresServer::start(),
        };
        Some(started.unwrap_or_else(|error| panic!("this test needs PostgreSQL: {error:#}")))
    });
    if server.is_none() {
        left_out();
    }
    server.as_ref()
}

/// An empty database on [`shared`]; dropped with the value. `None` as there.
///
/// # Panics
/// As [`shared`], and when the server refuses to make a database.
#[must_use]
pub fn fresh_database() -> Option<FreshDatabase<'static>> {
    let server = shared()?;
    Some(server.fresh_database().unwrap_or_else(|error| panic!("this test needs a database: {error:#}")))
}

#[expect(
    clippy::print_stderr,
    reason = "the test's own output is where a person looks for why it passed so fast"
)]
fn left_out() {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!(
        "{name} is LEFT OUT: it needs PostgreSQL, which this machine has not, and the profile is quick"
    );
}
