//! The cases that both databases must pass.

use std::collections::BTreeSet;
use std::task::Poll;

use spillway_core::{Command, Key, State};
use spillway_ledger::Account;
use spillway_types::{DurationMs, JobId, UnixMs};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::TestDatabase;
pub(super) use super::ledger::{
    a_ledger_that_was_meddled_with_is_found, a_period_closes_and_its_export_stays, charges_say_what_was_used,
    entries_of_an_older_version_are_linked, the_ledger_is_a_chain_that_verifies,
};
pub(super) use super::pools::{
    a_closed_pool_is_in_the_chain_and_in_every_export, shares_of_what_nobody_used_are_spend_of_groups,
    use_of_an_older_version_is_filled_from_roll_ups,
    what_is_posted_before_a_close_in_one_transaction_is_booked_before_it,
};
pub(super) use super::reports::{
    a_zone_moves_charges_between_buckets_only, days_are_converted_at_their_own_rates,
    every_report_reaches_the_total, reports_say_what_was_used, roll_ups_are_made_again_and_compared,
    roll_ups_of_an_older_version_are_made,
};
use super::world::{World, spec, user};
use crate::target::Target;
use crate::{Batch, JobFilter, JournalRow, Meta, SpendBy, SpendRow, Store, StoreError, migrate, open};

/// Changes the database behind the store's back.
pub(super) async fn meddle(store: &Store, sql: &str) {
    let mut writer = store.inner.writer.lock().await;
    writer.meddle(AssertSqlSafe(sql.to_owned()).into_sql_str()).await.unwrap();
}

pub(super) async fn an_empty_database_is_an_empty_state(database: &TestDatabase) {
    let store = database.open().await;
    assert_eq!(store.load().await.unwrap(), State::default());
    assert_eq!(store.meta().await.unwrap(), Meta { deployment: String::new(), incarnation: 0, journal: 0 });
    assert_eq!(store.jobs(&JobFilter::default()).await.unwrap(), []);
    let nothing = SpendRow { keys: vec![], micros: 0, gpu_ms: 0 };
    assert_eq!(store.spend(&[]).await.unwrap(), [nothing]);
    assert_eq!(store.spend(&[SpendBy::Group]).await.unwrap(), []);
    assert_eq!(store.ledger_totals().await.unwrap().entries, 0);
}

pub(super) async fn what_was_committed_is_loaded(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded, *world.state());
    let kinds = [
        loaded.sites.len(),
        loaded.pools.len(),
        loaded.groups.len(),
        loaded.users.len(),
        loaded.tokens.len(),
        loaded.join_tokens.len(),
        loaded.nodes.len(),
        loaded.instances.len(),
        loaded.jobs.len(),
        loaded.attempts.len(),
        loaded.submissions.len(),
        loaded.overshoot_micros.len(),
        loaded.history.kinds(),
    ];
    assert_eq!(kinds, [2, 2, 3, 1, 1, 2, 2, 1, 3, 2, 6, 1, 2], "the day was not as busy as it should be");
    let meta = store.meta().await.unwrap();
    assert_eq!(meta, Meta { deployment: "test".into(), incarnation: 1, journal: loaded.journal });
}

pub(super) async fn the_journal_gives_the_same_state(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let (mut replayed, mut after) = (State::default(), 0);
    loop {
        let rows = store.journal(after, 7).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = last.seq;
        for row in &rows {
            replayed.replay(row.seq, row.at, &row.events).unwrap();
        }
    }
    assert_eq!(replayed, store.load().await.unwrap());
}

pub(super) async fn a_restart_goes_on_where_it_ended(database: &TestDatabase) {
    let store = database.open().await;
    let before = World::busy_day(&store).await.state().clone();
    store.close().await.unwrap();
    let store = database.open().await;
    let state = store.load().await.unwrap();
    assert_eq!(state, before);
    let mut world = World::on(state, 2);
    world.run(Command::StartBroker { deployment: "another".into() });
    world.submit("after the restart", "vision");
    world.commit(&store).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded, *world.state());
    assert_eq!((loaded.incarnation, loaded.deployment.as_str()), (2, "test"));
}

pub(super) async fn a_failed_transaction_leaves_nothing(database: &TestDatabase) {
    let store = database.open().await;
    let before = World::busy_day(&store).await.state().clone();
    let totals = store.ledger_totals().await.unwrap();
    let mut world = World::on(before.clone(), 2);
    let node = world.join("dgx-3");
    let job = world.submit("lost", "vision");
    let attempt = world.place_on(job, node, 0);
    let batch = world.batch();
    let mut prepared = store.prepare(&batch).unwrap();
    // The table that is written last refuses, after all others took their rows.
    prepared.entries.extend(prepared.entries.clone());
    assert!(matches!(store.write(prepared).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.load().await.unwrap(), before);
    assert_eq!(store.ledger_totals().await.unwrap(), totals);
    assert_eq!(store.job(job).await.unwrap(), None);
    assert_eq!(store.attempt(attempt).await.unwrap(), None);
    // And the next one goes on from there.
    let mut world = World::on(before, 3);
    world.submit("next", "vision");
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
}

/// Polls so often, then goes away. Whether it came to its end.
async fn poll_times<T>(future: impl Future<Output = T>, times: u64) -> Option<T> {
    let (mut future, mut polls) = (std::pin::pin!(future), 0);
    std::future::poll_fn(|context| {
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) async fn a_dropped_commit_does_not_stop_the_next(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    let mut committed = world.state().clone();
    for polls in 1..1000 {
        let mut world = World::on(committed.clone(), 1 + polls);
        world.submit("doomed", "vision");
        let batch = world.batch();
        let prepared = store.prepare(&batch).unwrap();
        // Whatever the moment at which the caller goes away, the store is whole afterwards.
        let finished = poll_times(store.write(prepared), polls).await;
        let loaded = store.load().await.unwrap();
        if let Some(result) = finished {
            result.unwrap();
            assert_eq!(loaded, *world.state());
            assert!(polls > 1, "nothing was dropped");
            return;
        }
        assert!(loaded == committed || loaded == *world.state(), "a part of a batch was written");
        committed = loaded;
    }
    panic!("a write has no end");
}

pub(super) async fn a_ledger_key_is_posted_once(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let attempt =
        store.attempts_of(world.state().jobs.keys().next().copied().unwrap(), 1).await.unwrap().remove(0).id;
    let entry = store.entries_of(attempt).await.unwrap().remove(0);
    let seq = world.state().journal + 1;
    let mut changes = spillway_core::Changes::default();
    changes.entries.push((seq, entry.clone()));
    let journal = vec![JournalRow { seq, at: world.now, events: vec![] }];
    let error = store.commit(Batch { state: world.state(), changes, journal }).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(
        store.entries_of(attempt).await.unwrap().iter().filter(|it| it.key() == entry.key()).count(),
        1
    );
    assert_eq!(store.load().await.unwrap(), *world.state());
}

pub(super) async fn a_gap_in_the_journal_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    let newest = world.state().journal;
    let row = |seq| JournalRow { seq, at: UnixMs(0), events: vec![] };
    let batch = |journal| Batch { state: world.state(), changes: spillway_core::Changes::default(), journal };
    for wrong in [newest, newest + 2] {
        let error = store.commit(batch(vec![row(wrong)])).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains(&format!("ends at {newest}")), "{error}");
    }
    let error = store.commit(batch(vec![row(newest + 1), row(newest + 3)])).await.unwrap_err();
    assert!(matches!(error, StoreError::Other { .. }), "{error}");
    store.commit(batch(vec![row(newest + 1), row(newest + 2)])).await.unwrap();
    assert_eq!(store.meta().await.unwrap().journal, newest + 2);
}

pub(super) async fn spend_adds_up(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let book = &world.state().book;
    let spent = |group: &str| book.spent(&group.parse().unwrap());
    let totals = store.ledger_totals().await.unwrap();
    assert_eq!((totals.postings_micros, &totals.mismatched), (0, &vec![]));
    assert_eq!(totals.spend_micros, spent("lab"));
    assert_eq!(totals.charges_micros, totals.spend_micros);
    let all = store.spend(&[]).await.unwrap().remove(0);
    // 60 s and 10 s on-prem, 60 s in the cloud, of one accelerator each.
    assert_eq!((all.micros, all.gpu_ms), (spent("lab"), 130_000));
    let groups = store.spend(&[SpendBy::Group]).await.unwrap();
    let expected: Vec<(Vec<String>, i64)> =
        ["speech", "vision"].map(|group| (vec![group.to_owned()], spent(group))).to_vec();
    assert_eq!(groups.into_iter().map(|row| (row.keys, row.micros)).collect::<Vec<_>>(), expected);
    let by = [SpendBy::Payee, SpendBy::Kind, SpendBy::Month, SpendBy::Instance, SpendBy::User, SpendBy::Site];
    let rows = store.spend(&by).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.micros).sum::<i64>(), all.micros);
    let overhead = rows.iter().find(|row| row.keys[1] == "overhead").unwrap();
    assert_eq!(overhead.keys[0], "payable:aws:us-east-1");
    assert!(
        overhead.keys[3].starts_with("inst_") && overhead.micros > 0 && overhead.gpu_ms == 0,
        "{overhead:?}"
    );
    let months: BTreeSet<&str> = rows.iter().map(|row| row.keys[2].as_str()).collect();
    assert_eq!(months, BTreeSet::from(["2026-01", "2026-02"]));
    for job in store.jobs(&JobFilter::default()).await.unwrap() {
        let charged: i64 = store
            .spend(&[SpendBy::Job, SpendBy::Kind, SpendBy::Attempt])
            .await
            .unwrap()
            .iter()
            .filter(|row| row.keys[0] == job.id.to_string() && row.keys[1] != "overhead")
            .map(|row| row.micros)
            .sum();
        assert_eq!(charged, job.cost_micros, "{}", job.spec.name);
    }
    meddle(&store, "UPDATE balances SET micros = micros + 1 WHERE account = 'spend:vision'").await;
    let wrong = store.ledger_totals().await.unwrap().mismatched;
    assert_eq!(wrong, [Account::Spend("vision".parse().unwrap())]);
}

pub(super) async fn jobs_come_in_pages(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::busy_day(&store).await;
    for number in 0..5 {
        world.submit(&format!("more-{number}"), "vision");
    }
    world.commit(&store).await.unwrap();
    let names = |jobs: &[spillway_core::entity::Job]| -> Vec<String> {
        jobs.iter().map(|job| job.spec.name.clone()).collect()
    };
    let mut filter = JobFilter { limit: 3, ..JobFilter::default() };
    let mut seen: Vec<JobId> = vec![];
    loop {
        let jobs = store.jobs(&filter).await.unwrap();
        seen.extend(jobs.iter().map(|job| job.id));
        filter.before = seen.last().copied();
        if jobs.len() < 3 {
            break;
        }
    }
    assert_eq!(seen.len(), 11);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "{seen:?}");
    let of = |groups: &[&str], state: Option<&str>| JobFilter {
        groups: Some(groups.iter().map(|group| group.parse().unwrap()).collect()),
        state: state.map(str::to_owned),
        ..JobFilter::default()
    };
    for (filter, expected) in [
        (of(&["speech"], None), vec!["another", "cancelled", "cloudy"]),
        (of(&["speech", "lab"], Some("queued")), vec!["waiting"]),
        (of(&["vision"], Some("running")), vec!["running"]),
        (of(&["vision"], Some("succeeded")), vec!["done"]),
        (of(&["speech"], Some("cancelled")), vec!["cancelled"]),
        (of(&[], None), vec![]),
        (of(&["nobody"], None), vec![]),
    ] {
        assert_eq!(names(&store.jobs(&filter).await.unwrap()), expected, "{filter:?}");
    }
}

pub(super) async fn what_is_over_can_be_read(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::busy_day(&store).await;
    let job =
        store.jobs(&JobFilter { state: Some("succeeded".into()), limit: 1, ..JobFilter::default() }).await;
    let job = job.unwrap().remove(0);
    assert!(!world.state().jobs.contains_key(&job.id));
    assert_eq!(store.job(job.id).await.unwrap(), Some(job.clone()));
    let attempt = store.attempts_of(job.id, 10).await.unwrap().remove(0);
    assert_eq!(store.attempt(attempt.id).await.unwrap(), Some(attempt.clone()));
    for job in store.jobs(&JobFilter::default()).await.unwrap() {
        let mut whole = store.attempts_of(job.id, 100).await.unwrap();
        let (mut pages, mut before) = (vec![], None);
        while let Some(next) = store.attempts_before(job.id, before, 1).await.unwrap().pop() {
            before = Some(next.id);
            pages.push(next);
        }
        whole.reverse();
        assert_eq!(pages, whole);
    }
    let kinds: Vec<&str> =
        store.entries_of(attempt.id).await.unwrap().iter().map(|entry| entry.kind().as_str()).collect();
    assert_eq!(kinds.first(), Some(&"hold"));
    assert!(kinds.contains(&"charge") && kinds.contains(&"release"), "{kinds:?}");
    let gone = store.ended_instances(10).await.unwrap();
    assert_eq!(gone.len(), 1);
    assert!(gone[0].gone.is_some());
    assert_eq!(store.instance(gone[0].id).await.unwrap().as_ref(), gone.first());
    // A late touch of what is over leaves it as it ended.
    let mut changes = world.federation.take_changes();
    changes.touched.extend([Key::Job(job.id), Key::Instance(gone[0].id), Key::Attempt(attempt.id)]);
    store.commit(Batch { state: world.state(), changes, journal: vec![] }).await.unwrap();
    assert_eq!(store.job(job.id).await.unwrap(), Some(job));
    assert_eq!(store.load().await.unwrap(), *world.state());
}

pub(super) async fn forgotten_submissions_are_deleted(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::busy_day(&store).await;
    let strange = Some(("a\\0\0b".to_owned(), "digest".to_owned()));
    world.run(Command::Submit { spec: Box::new(spec("strange", "lab")), user: user(), key: strange });
    world.commit(&store).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded, *world.state());
    assert_eq!(loaded.submissions.len(), 7);
    world.now = world.now.plus(DurationMs::from_secs(25 * 3600));
    world.run(Command::ForgetOldKeys);
    world.commit(&store).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded, *world.state());
    assert_eq!(loaded.submissions.len(), 0);
}

pub(super) async fn a_large_batch_is_written_whole(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::new();
    for number in 0..301 {
        world.submit(&format!("job-{number}"), "vision");
    }
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
    assert_eq!(world.state().jobs.len(), 301);
    // The same rows again, as updates.
    for job in world.state().jobs.keys().copied().collect::<Vec<_>>() {
        world.run(Command::Cancel { job, user: user() });
    }
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
    assert_eq!(world.state().jobs.len(), 0);
}

pub(super) async fn reads_go_on_while_writing(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    let reader = store.clone();
    let (finished, mut watch) = tokio::sync::watch::channel(false);
    let reading = tokio::spawn(async move {
        let (mut reads, mut seen) = (0, 0);
        while !*watch.borrow_and_update() || reads == 0 {
            // The writer's lock is not needed, and what is seen is whole: each batch submits ten.
            let count = reader.jobs(&JobFilter { limit: 1000, ..JobFilter::default() }).await.unwrap().len();
            assert!(count % 10 == 0 && count >= seen, "{seen} jobs, then {count}");
            (reads, seen) = (reads + 1, count);
        }
        (reads, seen)
    });
    for batch in 0..20 {
        for number in 0..10 {
            world.submit(&format!("job-{batch}-{number}"), "speech");
        }
        world.commit(&store).await.unwrap();
    }
    let held = store.inner.writer.lock().await;
    assert_eq!(store.jobs(&JobFilter { limit: 1000, ..JobFilter::default() }).await.unwrap().len(), 200);
    drop(held);
    finished.send(true).unwrap();
    let (reads, _) = reading.await.unwrap();
    assert!(reads > 0);
}

pub(super) async fn a_second_broker_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    let error = Store::open(&database.url).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let pid = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    store.close().await.unwrap();
    let store = database.open().await;
    assert_eq!(store.load().await.unwrap(), *world.state());
}

pub(super) async fn a_newer_or_other_schema_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    World::new().commit(&store).await.unwrap();
    store.close().await.unwrap();
    // Again: nothing is applied twice.
    database.open().await.close().await.unwrap();
    let target = Target::parse(&database.url).unwrap();
    let mut connection = open::connect(&target).await.unwrap();
    let mut changed = migrate::MIGRATIONS;
    changed[0].2 = "CREATE TABLE other (id BIGINT)";
    let error = migrate::run_these(&changed, &mut connection, &target).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    // A fresh connection: a failed run keeps its lock.
    connection.close().await.unwrap();
    let mut connection = open::connect(&target).await.unwrap();
    let mut newer = migrate::MIGRATIONS.to_vec();
    newer.push((99, "newer", "CREATE TABLE newer (id BIGINT)"));
    migrate::run_these(&newer, &mut connection, &target).await.unwrap();
    connection.close().await.unwrap();
    let error = Store::open(&database.url).await.unwrap_err();
    let newest = migrate::MIGRATIONS.last().unwrap().0;
    let told = matches!(error, StoreError::Newer { schema: 99, known, .. } if known == newest);
    assert!(told, "{error}");
}

pub(super) async fn an_older_schema_is_brought_up_to_date(database: &TestDatabase) {
    let target = Target::parse(&database.url).unwrap();
    let mut connection = open::connect(&target).await.unwrap();
    let (first, _) = migrate::MIGRATIONS.split_first().unwrap();
    migrate::run_these(&[*first], &mut connection, &target).await.unwrap();
    let user = "INSERT INTO users VALUES ('eve', '{\"name\":\"eve\",\"role\":\"member\",\"groups\":[]}')";
    connection.execute(user.into_sql_str(), vec![]).await.unwrap();
    connection.close().await.unwrap();
    let store = database.open().await;
    let loaded = store.load().await.unwrap();
    assert_eq!((loaded.users.len(), loaded.history.kinds()), (1, 0));
    let world = World::busy_day(&store).await;
    assert_eq!(store.load().await.unwrap().history, world.state().history);
}

pub(super) async fn a_damaged_row_is_named(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    meddle(&store, "UPDATE users SET body = '{\"name\":\"ann\",\"role\":\"king\"}'").await;
    let error = store.load().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("king"), "{error}");
}

pub(super) async fn a_closed_store_says_so(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    store.close().await.unwrap();
    world.submit("late", "vision");
    for error in [
        world.commit(&store).await.unwrap_err(),
        store.load().await.unwrap_err(),
        store.meta().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
}
