//! Datasets that come to a job's node from another site, with real processes: the job finds them, the bytes are charged
//! once as what they are, and the books hold, also where the agent dies in the middle.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spillway_api::v1::JobState;
use spillway_tests::federation::{CLOUD, ON_PREM, SOON};
use spillway_tests::{Federation, Work, cli, wait_for};

use crate::limits::must;

/// How many bytes the dataset has: at 1000.00 a gigabyte they cost 0.10.
const BYTES: usize = 100_000;

/// A server of the dataset. Its first answer stops after `first` bytes.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (port, asked) =
            (listener.local_addr().expect("an address").port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                let least = if counted.fetch_add(1, Ordering::SeqCst) == 0 { first } else { BYTES };
                std::thread::spawn(move || serve(peer, least).ok());
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The settings that say so.
    fn settings(&self) -> String {
        format!(
            "[[datasets]]\nname = \"web.v1\"\nsize = \"{BYTES}B\"\n\
             [[datasets.copies]]\nsite = \"{CLOUD}\"\nsource = \"http://127.0.0.1:{}/web.tar\"\n\
             [[links]]\nfrom = \"{CLOUD}\"\nto = \"{ON_PREM}\"\negress = \"1000\"\n",
            self.port
        )
    }
}

fn serve(mut peer: TcpStream, least: usize) -> std::io::Result<()> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        peer.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: usize = range.map_or(0, |from| from.parse().expect("a number"));
    let (status, length) = (if from > 0 { "206 Partial Content" } else { "200 OK" }, BYTES - from);
    let range = format!("content-range: bytes {from}-{}/{BYTES}", BYTES - 1);
    write!(peer, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{range}\r\nconnection: close\r\n\r\n")?;
    peer.write_all(&vec![b'x'; length.min(least)])?;
    if least < length {
        // Until the agent goes.
        peer.read_exact(&mut byte)?;
    }
    Ok(())
}

fn reading(name: &str) -> Work {
    let check = format!("[ \"$(wc -c <\"$SPILLWAY_INPUT_WEB_V1\")\" = {BYTES} ]");
    Work::new(name).at(ON_PREM).reading("web.v1", &check)
}

/// The books hold, and all bytes of the dataset are charged once, at the site that they left.
fn bytes_are_paid_once(federation: &Federation) {
    let verified = must(federation, "ledger", &["verify"]);
    assert!(verified.contains("everything is as it was written"), "{verified}");
    let spent = must(federation, "spend", &["--by", "site,dataset", "-o", "csv"]);
    let rows: Vec<Vec<&str>> = spent.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|title| *title == name).expect("a column");
    let (amount, egress) = (column("amount"), column("egress"));
    let told: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1], row[egress])).collect();
    assert_eq!(told, [(CLOUD, "web.v1", "0.100000"), (ON_PREM, "web.v1", "0.000000")], "{spent}");
    assert_eq!(rows[1][amount], "0.100000", "{spent}");
    let records = federation.ask(federation.client().ledger(0)).expect("the broker answers").items;
    let month = records.last().expect("something was charged").booked.to_string();
    let out = federation.path().join("focus");
    must(federation, "export", &["focus", "--period", &month, "--out", &out.display().to_string()]);
    let file = out.join(format!("focus-{month}.csv")).display().to_string();
    let said = cli::spillway(federation.path(), "check", &["focus", "check", &file]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
    let rows = std::fs::read_to_string(&file).expect("the export");
    assert!(rows.lines().any(|row| row.contains("Networking") && row.contains("web.v1")), "{rows}");
}

#[test]
fn a_job_finds_its_dataset_and_pays_once_for_the_bytes() {
    let server = Server::start(BYTES);
    let mut federation = Federation::prepare().with_settings(&server.settings());
    federation.start_broker();
    federation.join("one", 2);
    let job = federation.submit(reading("first"));
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert!(
        view.summary.cost.micros >= 1_100_000,
        "a second of a GPU, and the bytes: {:?}",
        view.summary.cost
    );
    let again = federation.submit(reading("again"));
    federation.wait_job(&again, JobState::Succeeded);
    federation.settle();
    assert_eq!(server.asked(), 1, "the second job finds it on the node");
    bytes_are_paid_once(&federation);
    federation.audit();
}

#[test]
fn an_agent_that_is_killed_while_it_downloads_pays_for_no_byte_twice() {
    let server = Server::start(BYTES / 2);
    let mut federation = Federation::prepare().with_settings(&server.settings());
    federation.start_broker();
    let agent = federation.join("one", 2);
    let job = federation.submit(reading("patient"));
    wait_for(
        "the download",
        SOON,
        || if server.asked() > 0 { Ok(()) } else { Err("nothing asked".to_owned()) },
    );
    federation.agents[agent].process.kill();
    federation.agents[agent].restart();
    federation.wait_job(&job, JobState::Succeeded);
    federation.settle();
    bytes_are_paid_once(&federation);
    federation.audit();
}
