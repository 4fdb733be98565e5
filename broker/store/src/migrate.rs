//! The schema's history. What was applied is checked by its checksum: a file here is never changed once it was
//! released, only followed by another.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::StoreError;
use crate::sql::Connection;
use crate::target::Target;

/// Version, description and statements, oldest first.
pub(crate) const MIGRATIONS: [(i64, &str, &str); 10] = [
    (1, "initial", include_str!("../migrations/0001_initial.sql")),
    (2, "run history", include_str!("../migrations/0002_run_history.sql")),
    (3, "ledger chain", include_str!("../migrations/0003_ledger_chain.sql")),
    (4, "limits", include_str!("../migrations/0004_limits.sql")),
    (5, "usage", include_str!("../migrations/0005_usage.sql")),
    (6, "rollups", include_str!("../migrations/0006_rollups.sql")),
    (7, "entries by time", include_str!("../migrations/0007_entries_by_time.sql")),
    (8, "pools", include_str!("../migrations/0008_pools.sql")),
    (9, "currencies", include_str!("../migrations/0009_currencies.sql")),
    (11, "site manifests", include_str!("../migrations/0011_site_manifests.sql")),
];

/// Brings the schema up to date.
pub(crate) async fn run(connection: &mut Connection, target: &Target) -> Result<(), StoreError> {
    run_these(&MIGRATIONS, connection, target).await
}

pub(crate) async fn run_these(
    migrations: &[(i64, &'static str, &'static str)],
    connection: &mut Connection,
    target: &Target,
) -> Result<(), StoreError> {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations(migrations.iter().map(migration).collect());
    let done = match connection {
        Connection::Sqlite(connection) => migrator.run(connection).await,
        Connection::Postgres(connection) => migrator.run(connection).await,
    };
    let known = migrations.iter().map(|(version, ..)| *version).max().unwrap_or(0);
    done.map_err(|error| refused(error, target, known))
}

fn refused(error: MigrateError, target: &Target, known: i64) -> StoreError {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return target.sqlx(error);
    }
    if let MigrateError::VersionMissing(schema) = error {
        StoreError::Newer { database: target.to_string(), schema, known }
    } else if let MigrateError::VersionMismatch(schema) = error {
        target.corrupt(format_args!("its schema {schema} is not the one of this version of Spillway"))
    } else if let MigrateError::Dirty(schema) = error {
        target.corrupt(format_args!("schema {schema} was applied in part"))
    } else {
        let what = "its schema cannot be brought up to date".to_owned();
        StoreError::Other { database: target.to_string(), what, source: Some(Box::new(error)) }
    }
}
