//! The same jobs through a real Slurm with slurmdbd and MariaDB, and through the broker's own books.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod limit;
#[cfg(test)]
mod usage;

use spillway_tests::profile;
use spillway_tests::slurm::{Cluster, Slurm, User, missing};
use xtask::cli::Profile;

/// What the one node declares, to Slurm and to the broker alike.
const CPUS: u32 = 16;
const GPUS: u32 = 16;

/// A private Slurm with accounting. Only the quick profile allows to do without it.
fn slurm() -> Option<Slurm> {
    let missing = missing(true);
    if let Some(program) = missing
        && profile::current() == Profile::Quick
    {
        xtask::step::say(&format!("LEFT OUT: Slurm is not installed ({program} is missing)"));
        return None;
    }
    assert_eq!(missing, None, "Slurm is not installed; `cargo xtask setup` installs it");
    let cluster = Cluster { cpus: CPUS, gpus: GPUS, accounting: true };
    Some(Slurm::start(cluster).expect("Slurm starts"))
}

/// Users of every Debian that jobs can be submitted as: three where the tests run as root, else the own one.
fn users() -> Vec<User> {
    let me = std::process::Command::new("id").arg("-un").output().expect("`id` starts").stdout;
    let me = String::from_utf8(me).expect("a name of a user is text").trim().to_owned();
    let others = ["daemon", "nobody"].into_iter().filter(|_| me == "root");
    let others = others.map(|name| User { name: name.to_owned(), other: true });
    std::iter::once(User { name: me.clone(), other: false }).chain(others).collect()
}

/// Slurm's word for a name, as a name here.
fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("what this test gives is right")
}
