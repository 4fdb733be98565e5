//! What is special to SQLite: the file, its room, and who may write to it.

use super::TestDatabase;
use super::world::World;
use crate::{Store, StoreError};

async fn pragma(store: &Store, sql: &'static str) {
    store.inner.writer.lock().await.fetch(sql).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let before = World::busy_day(&store).await.state().clone();
    // No more room than the file has already.
    pragma(&store, "PRAGMA max_page_count = 1").await;
    let mut world = World::on(before.clone(), 2);
    for number in 0..200 {
        world.submit(&format!("job-{number}"), "vision");
    }
    let error = world.commit(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(store.load().await.unwrap(), before);
    pragma(&store, "PRAGMA max_page_count = 1073741823").await;
    let mut world = World::on(before, 3);
    world.submit("there is room again", "vision");
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_said_so() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let mut world = World::new();
    world.commit(&store).await.unwrap();
    pragma(&store, "PRAGMA query_only = ON").await;
    world.submit("refused", "vision");
    let error = world.commit(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("cannot be written"), "{error}");
}

#[tokio::test]
async fn a_folder_that_takes_no_file_is_said_so() {
    // Nobody, root included, makes files there.
    let error = Store::open("sqlite:/sys/spillway.db").await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("/sys/spillway.db"), "{error}");
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear database, ".repeat(1000)).unwrap();
    let error = Store::open(&format!("sqlite:{}", path.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn one_file_has_one_lock_by_any_name() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let path = database.url.strip_prefix("sqlite:").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(path, &link).unwrap();
    let error = Store::open(&format!("sqlite:{}", link.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(store);
}
