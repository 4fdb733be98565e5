//! The private PostgreSQL of the tests, seen through the driver that the broker uses.

use spillway_tests::postgres::{fresh_database, shared};
use sqlx::{Connection as _, PgConnection};
use xtask::postgres::PostgresServer;

async fn ask(url: &str, question: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("the server answers");
    let (answer,): (String,) = sqlx::query_as(sqlx::AssertSqlSafe(question))
        .fetch_one(&mut connection)
        .await
        .expect("the question is right");
    connection.close().await.expect("it is open");
    answer
}

#[tokio::test]
async fn each_database_is_empty_and_nobody_elses() {
    let (Some(one), Some(two)) = (fresh_database(), fresh_database()) else { return };
    assert_ne!(one.url(), two.url());
    let mut connection = PgConnection::connect(one.url()).await.unwrap();
    sqlx::query("CREATE TABLE mine (id BIGINT)").execute(&mut connection).await.unwrap();
    let count = "SELECT count(*)::text FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!(ask(one.url(), count).await, "1");
    assert_eq!(ask(two.url(), count).await, "0");
}

#[tokio::test]
async fn the_server_is_as_durable_as_in_production() {
    let Some(database) = fresh_database() else { return };
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let question = format!("SELECT setting FROM pg_settings WHERE name = '{setting}'");
        assert_eq!(ask(database.url(), &question).await, "on", "{setting}");
    }
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_while_it_is_used() {
    let Some(database) = fresh_database() else { return };
    let Some(other) = fresh_database() else { return };
    let url = database.url().to_owned();
    let connection = PgConnection::connect(&url).await.unwrap();
    let name: String = ask(&url, "SELECT current_database()::text").await;
    drop(database);
    let question = format!("SELECT count(*)::text FROM pg_database WHERE datname = '{name}'");
    assert_eq!(ask(other.url(), &question).await, "0");
    drop(connection);
}

#[test]
fn a_server_that_is_not_there_is_an_error_with_its_name() {
    if shared().is_none() {
        return;
    }
    let nowhere = "postgres://spillway@localhost:5432/postgres?host=/nonexistent";
    let server = PostgresServer::at(nowhere).unwrap();
    let error = server.fresh_database().map(drop).expect_err("nobody listens there").to_string();
    assert!(error.contains("/nonexistent"), "{error}");
}
