//! A database that cannot be written, has no room, belongs to somebody else, or does not answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use spillway_api::v1::{GroupRequest, JobState};
use spillway_api::{ClientError, ErrorCode};
use spillway_tests::cli::{self, Said};
use spillway_tests::federation::{ON_PREM, SOON};
use spillway_tests::{Federation, Folder, Spawned, Work, wait_for};

/// A disk of its own in a mount namespace of its own, which needs no root; gone with the value.
struct Disk {
    holder: Spawned,
    folder: PathBuf,
}

impl Disk {
    /// Mounts it at `folder` by `script`, which finds the folder as `$1`.
    fn mount(place: &Path, folder: &Path, script: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("{script} && echo mounted && exec sleep 600")).arg("sh").arg(folder);
        let mut holder = Spawned::start("disk", command, place);
        wait_for("the mount", SOON, || {
            assert_eq!(holder.ended(), None, "no mount namespace: {}", holder.stderr());
            if holder.stdout().contains("mounted") { Ok(()) } else { Err(holder.stderr()) }
        });
        Self { holder, folder: folder.to_owned() }
    }

    /// The same command where the disk is mounted.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg("--target").arg(self.holder.pid().to_string()).args([
            "--user",
            "--mount",
            "--preserve-credentials",
        ]);
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Where its files are for everybody else.
    fn outside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(self.folder.strip_prefix("/").expect("it is absolute")).join(name)
    }
}

fn broker_fails(federation: &Federation, command: Command, words: &[&str]) {
    let Said { code, stderr, .. } = cli::run(federation.path(), "refused-broker", command);
    assert_eq!(code, 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
}

#[test]
fn a_database_that_is_read_only_is_refused_at_the_start() {
    let mut federation = Federation::start();
    federation.stop_broker();
    let data = federation.data_dir();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let disk = Disk::mount(federation.path(), &data, script);
    let inside = disk.inside(&federation.broker_command());
    broker_fails(&federation, inside, &["cannot be written", "spillway.db", "read-only"]);
    drop(disk);
    federation.audit();
}

#[test]
fn a_full_disk_refuses_submissions_keeps_what_runs_and_is_over_when_there_is_room() {
    let federation = Federation::prepare();
    let folder = federation.path().join("small");
    let disk = Disk::mount(federation.path(), &folder, "mount -t tmpfs -o size=8m tmpfs \"$1\"");
    let mut federation =
        federation.with_database(&format!("sqlite:{}", folder.join("spillway.db").display()));
    let inside = disk.inside(&federation.broker_command());
    federation.start_broker_by(inside);
    federation.join("one", 2);
    let running = federation.submit(Work::new("running").at(ON_PREM).until_told().only_once());
    federation.wait_job(&running, JobState::Running);

    let filler = disk.outside("filler");
    let full = std::fs::write(&filler, vec![0_u8; 16 << 20]).expect_err("it is smaller than that");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // What the database has of its own goes first.
    let refused = (0..2000).find_map(|number| {
        let name = format!("group-{number}").parse().unwrap();
        let request =
            GroupRequest { name, parent: None, weight: None, priority: None, budget: None, currency: None };
        federation.ask(federation.client().create_group(&request)).err()
    });
    assert!(refused.is_some(), "the disk was never full");
    match federation.try_submit(Work::new("no-room").at(ON_PREM)) {
        Err(ClientError::Api(error)) => {
            assert_eq!((error.code, error.status()), (ErrorCode::StorageFull, 507));
            assert!(error.message.contains("no room left"), "{error:?}");
        }
        other => panic!("a submission to a full database gave {other:?}"),
    }
    let seen = federation.wait_evidence(&running, "a line", |copies| Some(copies.first()?.last_ms));
    federation.wait_evidence(&running, "five seconds more", |copies| {
        (copies.first()?.last_ms >= seen + 5000).then_some(())
    });

    std::fs::remove_file(filler).unwrap();
    let after = federation.submit(Work::new("room-again").at(ON_PREM));
    federation.finish(&running);
    for job in [&running, &after] {
        federation.wait_job(job, JobState::Succeeded);
    }
    federation.settle();
    federation.stop_broker();
    for name in ["spillway.db", "spillway.db-wal"] {
        // A database that was closed in order has no second file.
        let copied = std::fs::copy(disk.outside(name), federation.path().join(name));
        assert!(copied.is_ok() || name.ends_with("wal"), "{copied:?}");
    }
    drop(disk);
    let moved = format!("sqlite:{}", federation.path().join("spillway.db").display());
    federation.with_database(&moved).audit();
}

#[test]
fn a_second_broker_on_the_same_database_is_refused() {
    let federation = Federation::start();
    let other = Folder::new();
    let mut command = federation.broker_command();
    command.args(["--listen", "127.0.0.1:0", "--tunnel", "127.0.0.1:0", "--data-dir"]).arg(other.path());
    broker_fails(&federation, command, &["in use by another broker"]);
    federation.audit();
}

#[test]
fn a_database_that_does_not_answer_or_has_no_name_is_named() {
    let federation = Federation::prepare();
    for (url, words) in [
        (
            "postgres://spillway@localhost:5432/none?host=/nonexistent",
            &["/nonexistent", "does not answer"][..],
        ),
        ("mysql://localhost/x", &["mysql", "sqlite:"]),
        ("sqlite:/nowhere/at/all.db", &["/nowhere/at", "create it first"]),
    ] {
        let mut command = federation.broker_command();
        command.args(["--database", url]);
        broker_fails(&federation, command, words);
    }
}
