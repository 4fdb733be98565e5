//! What is special to PostgreSQL: settings of the server, connections that are lost, and rights.

use sqlx::{Connection as _, PgConnection};

use super::TestDatabase;
use super::world::World;
use crate::{Store, StoreError};

async fn administer(database: &TestDatabase, sql: &str) {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn set(database: &TestDatabase, setting: &str) {
    let block =
        format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$");
    administer(database, &block).await;
}

#[tokio::test]
async fn a_server_that_would_lose_commits_is_refused() {
    let Some(database) = TestDatabase::postgres() else { return };
    set(&database, "synchronous_commit = off").await;
    let error = Store::open(&database.url).await.unwrap_err();
    assert!(matches!(error, StoreError::NotDurable { setting: "synchronous_commit", .. }), "{error}");
    assert!(error.to_string().contains("synchronous_commit is `off`, set it to `on`"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_said_so() {
    let Some(database) = TestDatabase::postgres() else { return };
    set(&database, "default_transaction_read_only = on").await;
    let error = Store::open(&database.url).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_connection_is_made_again_with_its_lock() {
    let Some(database) = TestDatabase::postgres() else { return };
    let store = database.open().await;
    let before = World::busy_day(&store).await.state().clone();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    administer(&database, kill).await;
    let mut world = World::on(before.clone(), 2);
    world.submit("lost with the connection", "vision");
    let error = world.commit(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(store.load().await.unwrap(), before);
    let mut world = World::on(before, 3);
    world.submit("goes through", "vision");
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
    assert!(matches!(Store::open(&database.url).await, Err(StoreError::Locked { .. })));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so() {
    let error = Store::open("postgres://me:secret@localhost/db?host=/nonexistent").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let said = format!("{error} {error:?}");
    assert!(said.contains("/nonexistent") && !said.contains("secret"), "{said}");
}
