//! Inputs that come from other sites: what is held for their bytes, at which price they are charged, and that each is
//! charged once.

use spillway_core::command::PartNews;
use spillway_core::entity::StopCause;
use spillway_ledger::window::Window;
use spillway_ledger::{Entry, EntryKind};
use spillway_types::{DataMap, Dataset, JobSpec, Link, PartEnd};

use crate::limits::{limit, set};
use crate::words::{DOLLAR, HOUR, Scene, ended_well, gang, job, name};

const GB: u64 = 1_000_000_000;

/// Ten gigabytes that are in `east` and are read there, at so many cents a gigabyte.
fn data(cents: i64) -> DataMap {
    let mut known = Dataset { bytes: 10 * GB, ..Dataset::default() };
    known.replicas.insert(name("east"));
    known.sources.insert(name("east"), name("https://key@east.example/web.tar"));
    let mut map = DataMap::default();
    map.datasets.insert(name("web"), known);
    let link = Link { bits_per_second: 8 * GB, egress_micros_per_gb: cents * DOLLAR / 100 };
    map.links.entry(name("east")).or_default().insert(name("home"), link);
    map
}

fn reads(job: JobSpec) -> JobSpec {
    JobSpec { inputs: vec![name("web")], ..job }
}

fn moved(pass: u32, from: u64, to: u64) -> PartNews {
    PartNews::Moved { dataset: name("web"), pass, from_bytes: from * GB, to_bytes: to * GB }
}

/// What is held for two hours of a GPU, and the grace.
fn hours() -> i64 {
    let mut scene = Scene::new();
    scene.node("H100:1");
    scene.start(&job("H100:1"));
    scene.held()
}

fn bytes(scene: &Scene) -> Vec<&Entry> {
    scene.world.records().entries.iter().filter(|it| it.kind() == EntryKind::Egress).collect()
}

#[test]
fn bytes_are_held_with_the_job_and_charged_once_at_the_price_of_its_placement() {
    let mut scene = Scene::new();
    scene.world.set_data(data(9));
    let node = scene.node("H100:1");
    let (id, attempt) = scene.start(&reads(job("H100:1")));
    assert_eq!(scene.held(), hours() + 90 * DOLLAR / 100, "hours and gigabytes");
    assert_eq!(scene.stands(id), "staging");
    scene.world.set_data(data(50));
    for (pass, from, to) in [(0, 0, 4), (0, 0, 4), (0, 2, 6), (0, 6, 10), (0, 9, 99)] {
        scene.says(node, attempt, 0, moved(pass, from, to));
    }
    let cents: Vec<i64> = bytes(&scene).iter().map(|it| it.spend_micros() * 100 / DOLLAR).collect();
    assert_eq!(cents, [36, 18, 36], "what was said twice is cut off");
    assert_eq!((scene.spent(), scene.held()), (90 * DOLLAR / 100, hours()));
    let payable = |scene: &Scene| -scene.state().book.balance(&name("payable:mock:east"));
    assert_eq!(payable(&scene), scene.spent(), "who sends is paid");
    let entry = bytes(&scene)[0];
    let usage = entry.usage().unwrap();
    assert_eq!((entry.subject().site.as_str(), usage.datasets[0].as_str()), ("east", "web"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.says(node, attempt, 0, ended_well(HOUR.min(1000)));
    let cost = 90 * DOLLAR / 100 + DOLLAR * 1000 / i64::try_from(HOUR).unwrap();
    assert_eq!(scene.spent(), cost);
    assert!(scene.state().overshoot_micros.values().all(|micros| *micros == 0));
    scene.is_over();
}

#[test]
fn a_download_that_begins_again_is_paid_again_and_only_so_often() {
    let mut scene = Scene::new();
    scene.world.set_data(data(10));
    let node = scene.node("H100:1");
    let (_, attempt) = scene.start(&reads(job("H100:1")));
    for (pass, from, to) in [(0, 0, 10), (1, 0, 10), (0, 0, 10), (2, 5, 6), (3, 0, 10)] {
        scene.says(node, attempt, 0, moved(pass, from, to));
    }
    assert_eq!(scene.spent(), DOLLAR + DOLLAR + DOLLAR / 10);
    assert_eq!(scene.held(), hours() - (DOLLAR + DOLLAR / 10), "the hold pays while it lasts");
    scene.says(node, attempt, 0, ended_well(HOUR));
    scene.is_over();
}

#[test]
fn what_no_hold_covers_is_measured_as_overshoot() {
    let mut scene = Scene::new();
    scene.group("lab", Some("org"), Some(hours() + 20 * DOLLAR));
    scene.world.set_data(data(200));
    let node = scene.node("H100:1");
    let (_, attempt) = scene.start(&reads(job("H100:1")));
    assert_eq!(scene.held(), hours() + 20 * DOLLAR, "all of the budget");
    for (pass, from, to) in [(0, 0, 10), (1, 0, 10), (2, 0, 10)] {
        scene.says(node, attempt, 0, moved(pass, from, to));
    }
    scene.says(node, attempt, 0, PartNews::Started);
    scene.says(node, attempt, 0, ended_well(1000));
    let used = DOLLAR * 1000 / i64::try_from(HOUR).unwrap();
    assert_eq!(scene.state().overshoot_micros[&name("lab")], 40 * DOLLAR + used - hours());
    scene.is_over();
}

#[test]
fn a_budget_that_has_no_room_for_the_bytes_starts_nothing() {
    let mut scene = Scene::new();
    scene.world.set_data(data(100));
    scene.node("H100:1");
    scene.must(set(limit("org", "money", "everywhere", Window::Month, hours() + 9 * DOLLAR)));
    let waits = scene.submit(&reads(job("H100:1")));
    assert_eq!(scene.world.place().unwrap(), 0, "a dollar is missing");
    assert_eq!(scene.stands(waits), "queued");
    scene.cancel(waits);
    scene.world.set_data(data(90));
    let (_, attempt) = scene.start(&reads(job("H100:1")));
    let standing = |scene: &Scene| {
        let standing = &scene.state().limits.standings(&name("org"), scene.world.now())[0];
        (standing.used, standing.held)
    };
    assert_eq!(standing(&scene), (0, hours() + 9 * DOLLAR));
    let node = scene.attempt(attempt).parts[0].node.unwrap();
    scene.says(node, attempt, 0, moved(0, 0, 5));
    assert_eq!(standing(&scene), (9 * DOLLAR / 2, hours() + 9 * DOLLAR / 2));
    scene.says(
        node,
        attempt,
        0,
        PartNews::Ended { end: PartEnd::NotStarted { message: "x".into() }, ran_ms: 0 },
    );
    assert_eq!(standing(&scene), (9 * DOLLAR / 2, 0));
}

#[test]
fn each_part_of_a_gang_brings_its_own() {
    let mut scene = Scene::new();
    scene.world.set_data(data(10));
    let nodes = [scene.node("H100:1"), scene.node("H100:1")];
    let (_, attempt) = scene.start(&reads(gang(2, "H100:1")));
    assert_eq!(scene.held(), 2 * (hours() + DOLLAR));
    for node in nodes {
        let (rank, _) = scene.attempt(attempt).part_on(node).unwrap();
        scene.says(node, attempt, u32::try_from(rank).unwrap(), moved(0, 0, 10));
    }
    assert_eq!(scene.spent(), 2 * DOLLAR);
    assert_eq!(scene.attempt(attempt).stop, None::<StopCause>);
}

#[test]
fn what_is_there_or_cannot_be_read_is_neither_held_nor_charged() {
    let mut scene = Scene::new();
    let mut map = data(10);
    map.datasets.get_mut(&name("web")).unwrap().sources.clear();
    scene.world.set_data(map);
    let node = scene.node("H100:1");
    let (_, attempt) = scene.start(&reads(job("H100:1")));
    assert_eq!((scene.held(), scene.attempt(attempt).inputs.len()), (hours(), 0));
    scene.says(node, attempt, 0, moved(0, 0, 10));
    assert_eq!(scene.spent(), 0, "nobody asked for it");
    scene.says(node, attempt, 0, ended_well(1000));
    let mut map = data(10);
    let known = map.datasets.get_mut(&name("web")).unwrap();
    known.replicas.insert(name("home"));
    known.sources.insert(name("home"), name("/data/web.tar"));
    scene.world.set_data(map);
    let (_, attempt) = scene.start(&reads(job("H100:1")));
    assert_eq!((scene.held(), scene.attempt(attempt).inputs.len()), (hours(), 1));
}
