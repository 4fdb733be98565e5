//! Durable submissions a second through HTTP: 1, 16 and 256 clients, each on a connection of its own, each
//! waiting for its answer before it submits again. On SQLite and on PostgreSQL.
//!
//! The clients are threads that write prepared bytes: what they cost is little beside the broker. They run on the
//! same cores. Peer: `sbatch` of a private Slurm, one after the other and sixteen at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::postgres;

use crate::Settings;
use crate::clock::median_rate;
use crate::report::{Measurement, Peer};
use crate::slurm::Slurm;
use crate::world::World;

const CLIENTS: [(usize, &str, &str); 3] = [
    (1, "durable submissions, 1 client, sqlite", "durable submissions, 1 client, postgres"),
    (16, "durable submissions, 16 clients, sqlite", "durable submissions, 16 clients, postgres"),
    (256, "durable submissions, 256 clients, sqlite", "durable submissions, 256 clients, postgres"),
];

/// Measures both databases and, where it is installed, Slurm.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let slurm = Slurm::start()?;
    let peers = slurm.as_ref().map(|slurm| slurm_rates(slurm, settings)).transpose()?;
    drop(slurm);
    let mut measurements = vec![];
    let database = postgres::fresh_database();
    for url in [None, database.as_ref().map(|database| database.url().to_owned())] {
        if url.is_none() && !measurements.is_empty() {
            xtask::step::say("LEFT OUT: PostgreSQL is not installed");
            continue;
        }
        let world = World::start(url.as_deref())?;
        for (clients, on_sqlite, on_postgres) in CLIENTS {
            let metric = if url.is_none() { on_sqlite } else { on_postgres };
            let total = if settings.quick { 50 * clients.min(20) } else { 200 * clients.min(100) };
            let value = median_rate(if settings.quick { 3 } else { 5 }, || submit(&world, clients, total))?;
            let peer = peers.as_ref().map(|peers| if clients == 1 { &peers[0] } else { &peers[1] }).cloned();
            measurements.push(Measurement { metric: metric.into(), value, unit: "submissions/s", peer });
        }
    }
    Ok(measurements)
}

/// `total` submissions by `clients` at once.
fn submit(world: &World, clients: usize, total: usize) -> Result<u32> {
    let left = AtomicU32::new(u32::try_from(total)?);
    let request = request(world);
    std::thread::scope(|scope| {
        let work = || submit_until_none_left(&world.address, &request, &left);
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            Ok(sum + done)
        })
    })
}

fn request(world: &World) -> Vec<u8> {
    let body = r#"{"name":"bench","group":"bench","run":["true"],"time_limit":"1m"}"#;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        world.address,
        world.token.trim(),
        body.len()
    );
    format!("{head}{body}").into_bytes()
}

fn submit_until_none_left(address: &str, request: &[u8], left: &AtomicU32) -> Result<u32> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut done = 0;
    let take = |count: u32| count.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        stream.write_all(request)?;
        read_created(&mut answers)?;
        done += 1;
    }
    Ok(done)
}

fn read_created(answers: &mut BufReader<TcpStream>) -> Result<()> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let status = line.clone();
    let mut length = 0_usize;
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("an answer's length")?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body)?;
    ensure!(status.contains(" 201 "), "{}: {}", status.trim(), String::from_utf8_lossy(&body));
    Ok(())
}

fn slurm_rates(slurm: &Slurm, settings: &Settings) -> Result<[Peer; 2]> {
    let runs = if settings.quick { 1 } else { 3 };
    let each = if settings.quick { 50 } else { 200 };
    let alone = median_rate(runs, || slurm.submit(1, each))?;
    let together = median_rate(runs, || slurm.submit(16, each))?;
    Ok([
        Peer { name: format!("{}, sbatch one after the other", slurm.version()), value: alone },
        Peer { name: format!("{}, sbatch sixteen at once", slurm.version()), value: together },
    ])
}
