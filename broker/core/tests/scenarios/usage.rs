//! Whether all use of a month is here: what nodes say of it, and what a close waits for.

use spillway_core::command::{PartNews, PartReport, SpoolHead};
use spillway_core::entity::Node;
use spillway_core::{Command, Event, Refusal};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{NodeUsage, Said, SiteManifest, UsageGap, UsageMark};
use spillway_sim::FakeNode;
use spillway_types::{AttemptId, DurationMs, NodeId, NodeStep, PartEnd, SequentialIds};

use crate::words::{HOUR, Scene, inventory, job, usage};

fn month(scene: &Scene) -> Period {
    Period::of(scene.world.now(), &Zone::utc())
}

fn close(period: Period) -> Command {
    Command::ClosePeriod { period }
}

/// A node that ran a job for an hour, and the month in which it did.
fn worked() -> (Scene, NodeId, Period) {
    let mut scene = Scene::new();
    let node = scene.node("H100:4");
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.pass(3600);
    scene.contact();
    let period = month(&scene);
    (scene, node, period)
}

/// The clock goes to so long after the month's end. Nobody says anything.
fn goes_to(scene: &mut Scene, period: Period, after_ms: u64) {
    let until = period.end(&Zone::utc()).plus(DurationMs(after_ms));
    scene.world.pass(until.since(scene.world.now()));
}

fn manifests(scene: &Scene, period: Period) -> Vec<SiteManifest> {
    scene.world.records().manifests.iter().filter(|it| it.period == period).cloned().collect()
}

fn gap(refusal: &Refusal) -> UsageGap {
    let Refusal::UsageUnknown { count: 1, gap, .. } = refusal else { panic!("{refusal}") };
    **gap
}

fn statements(scene: &Scene) -> usize {
    let events = scene.world.journal().iter().flat_map(|entry| &entry.events);
    events.filter(|event| matches!(event, Event::UsageStated { .. })).count()
}

#[test]
fn a_close_waits_until_a_node_that_worked_has_said_that_all_its_use_is_here() {
    let (mut scene, node, period) = worked();
    scene.world.disconnect(node).unwrap();
    goes_to(&mut scene, period, HOUR);
    let refusal = scene.refused(close(period));
    let here = scene.broker_node(node).usage.mark;
    assert_eq!(gap(&refusal), UsageGap::Unsaid { complete_to: None, here });
    let text = refusal.to_string();
    assert!(text.contains(&format!("{node} of site home first: it has never said")), "{text}");
    assert!(text.contains(&format!("`spillway revoke {node}`")), "{text}");
    scene.world.connect(node).unwrap();
    scene.contact();
    assert_eq!(statements(&scene), 1);
    scene.must(close(period));
    let manifest = manifests(&scene, period).pop().unwrap();
    assert_eq!((manifest.site.as_str(), manifest.count, manifest.added), ("home", here.count, here.count));
    assert_eq!((manifest.nodes[0].node, manifest.nodes[0].mark), (node, here));
    assert_eq!(manifest.check(0), Ok(()));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn a_node_is_believed_to_be_complete_to_a_minute_ago_and_its_word_is_written_down_once_a_month() {
    let mut scene = Scene::new();
    let node = scene.node("H100:4");
    let period = month(&scene);
    let half_an_hour = period.end(&Zone::utc()).since(scene.world.now()).0 - HOUR / 2;
    scene.world.pass(DurationMs(half_an_hour));
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    assert_eq!(statements(&scene), 0, "no month has ended since it began to work");
    goes_to(&mut scene, period, 59_999);
    scene.contact();
    assert!(matches!(gap(&scene.refused(close(period))), UsageGap::Unsaid { .. }));
    scene.world.pass(DurationMs(1));
    scene.contact();
    scene.pass(600);
    assert_eq!(statements(&scene), 1);
    let said = scene.broker_node(node).usage.said;
    assert_eq!(said, Some(Said::Fits { complete_to: period.end(&Zone::utc()) }));
    scene.must(close(period));
    scene.pass(3600);
    scene.pass(3600);
    assert_eq!(statements(&scene), 2, "it rests");
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 60, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.pass(60);
    let next = period.next();
    goes_to(&mut scene, next, HOUR);
    assert!(matches!(gap(&scene.refused(close(next))), UsageGap::Unsaid { complete_to: Some(_), .. }));
    scene.contact();
    scene.must(close(next));
    let [first, second] = [period, next].map(|period| manifests(&scene, period).pop().unwrap());
    assert_eq!(second.check(first.count), Ok(()));
    assert!(second.added > 0 && second.count == first.count + second.added, "{second:?}");
}

#[test]
fn a_node_that_rests_and_goes_away_holds_up_no_close() {
    let (mut scene, node, period) = worked();
    scene.pass(59);
    assert_eq!(statements(&scene), 0, "it is believed up to a minute ago");
    scene.pass(1);
    scene.pass(3600);
    assert_eq!(statements(&scene), 1, "once");
    scene.world.disconnect(node).unwrap();
    goes_to(&mut scene, period, 0);
    scene.must(close(period));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn use_that_a_node_has_not_spooled_yet_counts_from_its_begin() {
    let (mut scene, node, period) = worked();
    goes_to(&mut scene, period, HOUR);
    let epoch = scene.broker_node(node).epoch;
    let sent = scene.broker_node(node).usage.mark;
    let say = |sent, age_ms| Command::StateUsage { node, epoch, sent, age_ms };
    let (_, last) = scene.broker_node(node).usage.worked.unwrap();
    let since = scene.world.now().since(last).0;
    scene.idle(say(sent, since));
    let ahead = UsageMark { range: sent.range.map(|(first, last)| (first, last + 1)), ..sent };
    scene.idle(say(ahead, 0));
    let stale = Command::StateUsage { node, epoch: epoch - 1, sent, age_ms: 0 };
    assert!(matches!(scene.refused(stale), Refusal::StaleEpoch { .. }));
    scene.must(say(sent, since - 60_000));
    scene.idle(say(sent, HOUR));
    scene.must(say(sent, HOUR - 60_000));
    scene.idle(say(sent, 0));
    scene.must(close(period));
}

#[test]
fn a_node_that_never_comes_back_is_revoked_and_counts_with_what_is_here() {
    let (mut scene, node, period) = worked();
    scene.world.disconnect(node).unwrap();
    let count = scene.broker_node(node).usage.count();
    goes_to(&mut scene, period, HOUR);
    scene.refused(close(period));
    scene.must(Command::StepNode { node, step: NodeStep::Leave });
    scene.must(close(period));
    let manifest = manifests(&scene, period).pop().unwrap();
    assert_eq!((manifest.count, manifest.gone.marks, manifest.nodes.len()), (count, 1, 0));
    assert_eq!(manifest.check(0), Ok(()));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn a_close_waits_for_nobody_who_had_no_work_in_the_month() {
    let (mut scene, node, period) = worked();
    let idle = scene.node("H100:1");
    scene.world.disconnect(idle).unwrap();
    goes_to(&mut scene, period, HOUR);
    scene.contact();
    let late = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:8"));
    scene.runs(id, 60, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.world.disconnect(late).unwrap();
    scene.must(close(period));
    scene.world.disconnect(node).unwrap();
    scene.world.connect(late).unwrap();
    goes_to(&mut scene, period.next(), HOUR);
    scene.contact();
    scene.must(close(period.next()));
}

/// An event arrives with another content than the node has spooled.
fn arrives_changed(scene: &mut Scene, node: NodeId, attempt: AttemptId) {
    scene.world.node_mut(node).unwrap().say(attempt, 0, usage(0, 60_000));
    let lie = PartReport { attempt, rank: 0, news: PartNews::Usage { from_ms: 0, to_ms: 59_000 } };
    let (epoch, first) = (scene.broker_node(node).epoch, scene.broker_node(node).acked + 1);
    scene.must(Command::Report { node, epoch, first, reports: vec![lie] });
    scene.world.node_mut(node).unwrap().acknowledge(first);
}

#[test]
fn an_event_that_was_changed_on_the_way_is_found_and_stays_found() {
    let mut scene = Scene::new();
    let node = scene.node("H100:4");
    let period = month(&scene);
    let (id, attempt) = scene.start(&job("H100:4"));
    scene.runs(id, 120, PartEnd::Exited { code: 0 });
    scene.contact();
    arrives_changed(&mut scene, node, attempt);
    scene.pass(120);
    assert!(matches!(scene.broker_node(node).usage.said, Some(Said::Differs { .. })));
    assert_eq!(statements(&scene), 1, "it is noted once, and at once");
    goes_to(&mut scene, period, HOUR);
    scene.world.restart(node).unwrap();
    scene.contact();
    assert_eq!(statements(&scene), 1);
    let refusal = scene.refused(close(period));
    let UsageGap::Differs { sent, here } = gap(&refusal) else { panic!("{refusal}") };
    assert!(sent.count == here.count && sent.hash != here.hash, "{refusal}");
    assert!(refusal.to_string().contains(&format!("it said that it had sent {sent}")), "{refusal}");
    scene.must(Command::StepNode { node, step: NodeStep::Leave });
    scene.must(close(period));
}

#[test]
fn a_node_that_lost_its_spool_goes_on_with_a_new_mark() {
    let (mut scene, node, period) = worked();
    let before = scene.broker_node(node).usage.mark;
    scene.world.disconnect(node).unwrap();
    *scene.world.node_mut(node).unwrap() = FakeNode::new(node, inventory("H100:4"), 77);
    let acked = scene.broker_node(node).acked;
    scene.world.connect(node).unwrap();
    let usage = scene.broker_node(node).usage;
    assert_eq!((usage.mark, usage.count()), (UsageMark::begin(acked), before.count));
    goes_to(&mut scene, period, HOUR);
    scene.contact();
    scene.must(close(period));
    let manifest = manifests(&scene, period).pop().unwrap();
    assert_eq!((manifest.count, manifest.nodes[0].earlier.marks), (before.count, 1));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn an_agent_from_before_marks_is_served_and_holds_up_a_close_until_it_is_replaced() {
    let (mut scene, node, period) = worked();
    goes_to(&mut scene, period, HOUR);
    let hello = |spool| Command::Connect {
        node,
        boot_nonce: 5,
        inventory: Box::new(inventory("H100:4")),
        observed: [].into(),
        spool,
    };
    let before = scene.broker_node(node).usage;
    scene.must(hello(None));
    assert_eq!(scene.broker_node(node).usage, before);
    assert!(matches!(gap(&scene.refused(close(period))), UsageGap::Unsaid { .. }));
    let acked = scene.broker_node(node).acked;
    scene.must(hello(Some(SpoolHead { next: acked + 3, usage_after: acked + 2 })));
    let mark = scene.broker_node(node).usage.mark;
    assert_eq!(mark, UsageMark::begin(acked + 2), "behind what is spooled and unmarked");
    let epoch = scene.broker_node(node).epoch;
    scene.idle(Command::StateUsage { node, epoch, sent: mark, age_ms: 0 });
    let unmarked = |number: u64| PartReport {
        attempt: AttemptId::generate(&mut SequentialIds::new(number)),
        rank: 0,
        news: PartNews::Usage { from_ms: 0, to_ms: number },
    };
    let reports = vec![unmarked(1), unmarked(2)];
    scene.must(Command::Report { node, epoch, first: acked + 1, reports });
    assert_eq!(scene.broker_node(node).usage.mark, mark);
    scene.must(Command::StateUsage { node, epoch, sent: mark, age_ms: 0 });
    scene.must(close(period));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn what_was_written_before_marks_is_read() {
    let (scene, node, period) = worked();
    let acked = format!(r#"{{"event":"spool-acked","node":"{node}","through":7}}"#);
    let read: Event = serde_json::from_str(&acked).unwrap();
    assert_eq!(read, Event::SpoolAcked { node, through: 7, usage: None });
    assert_eq!(serde_json::to_string(&read).unwrap(), acked);
    let closed = format!(r#"{{"event":"period-closed","period":"{period}"}}"#);
    let read: Event = serde_json::from_str(&closed).unwrap();
    assert_eq!(read, Event::PeriodClosed { period, manifests: vec![] });
    let mut row = serde_json::to_value(scene.broker_node(node)).unwrap();
    row.as_object_mut().unwrap().remove("usage").unwrap();
    let old: Node = serde_json::from_value(row).unwrap();
    assert_eq!(old.usage, NodeUsage::default());
}
