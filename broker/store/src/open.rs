//! Opening: connections with the settings that durability needs, each of them read back, and the lock.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqlSafeStr as _};

use crate::lock::FileLock;
use crate::sql::{Connection, Readers};
use crate::target::Target;
use crate::write::Writer;
use crate::{StoreError, migrate};

/// Every statement of every table in every size stays prepared.
const STATEMENTS: usize = 512;
/// Reports are few; more readers would only take the cores from the writer.
const SQLITE_READERS: u32 = 4;
/// Rows that a reader's thread may be ahead of who takes them: with few, a long report is a switch of threads for
/// every handful of rows.
const READER_ROWS: usize = 1024;
/// As many as a dashboard and some scripts use at once; a server has about a hundred for all.
const POSTGRES_READERS: u32 = 8;
/// How long a reader waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(10);
/// How long a connection waits for the file's own lock, which nobody should hold for long.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Rows are about a kilobyte: a larger page means fewer of them to write for each commit.
const PAGE_BYTES: u32 = 8192;
/// The writer's cache, in KiB below 0 as SQLite wants it: the upper levels of every index, and the newest rows.
const CACHE_KIB: &str = "-65536";
/// Pages in the log before it is copied into the file: 64 MiB, so that a busy second does not do it several times.
const CHECKPOINT_PAGES: &str = "8192";
/// What the log is cut back to.
const LOG_BYTES: &str = "134217728";
/// `SPILLWAY` in ASCII: the key of PostgreSQL's advisory lock, which is of one database.
const ADVISORY_KEY: i64 = 0x5350_494c_4c57_4159;
/// How long the lock of a broker that was just killed may take to be freed, and how often to look.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_TRY: Duration = Duration::from_millis(100);

pub(crate) async fn open(url: &str) -> Result<(Target, Readers, Writer), StoreError> {
    let target = Target::parse(url)?;
    let lock = match &target {
        Target::Sqlite(path) => Some(FileLock::take(path)?),
        Target::Postgres(_) => None,
    };
    let mut connection = connect(&target).await?;
    migrate::run(&mut connection, &target).await?;
    let readers = match &target {
        Target::Sqlite(path) => {
            let options = sqlite_options(path).pragma("query_only", "ON").row_buffer_size(READER_ROWS);
            let pool = SqlitePoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(READER_WAIT);
            Readers::Sqlite(pool.connect_lazy_with(options))
        }
        Target::Postgres(options) => {
            let pool = PgPoolOptions::new().max_connections(POSTGRES_READERS).acquire_timeout(READER_WAIT);
            Readers::Postgres(pool.connect_lazy_with(postgres_options(options)))
        }
    };
    tracing::info!("{target} is open");
    let mut writer = Writer::new(target.clone(), connection, lock);
    writer.seal().await?;
    writer.make_rollups().await?;
    Ok((target, readers, writer))
}

/// A connection for the writer, with its settings checked. In PostgreSQL it holds the lock.
pub(crate) async fn connect(target: &Target) -> Result<Connection, StoreError> {
    match target {
        Target::Sqlite(path) => {
            let options = sqlite_options(path)
                .create_if_missing(true)
                .page_size(PAGE_BYTES)
                .journal_mode(SqliteJournalMode::Wal)
                .pragma("cache_size", CACHE_KIB)
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
                .pragma("journal_size_limit", LOG_BYTES);
            let connected = options.connect().await.map_err(|error| target.sqlx(error))?;
            let mut connection = Connection::Sqlite(connected);
            check(&mut connection, target, &SQLITE_SETTINGS).await?;
            Ok(connection)
        }
        Target::Postgres(options) => {
            let connected = postgres_options(options).connect().await.map_err(|error| target.sqlx(error))?;
            let mut connection = Connection::Postgres(connected);
            check(&mut connection, target, &POSTGRES_SETTINGS).await?;
            lock_postgres(&mut connection, target).await?;
            Ok(connection)
        }
    }
}

fn sqlite_options(path: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_WAIT)
        .statement_cache_capacity(STATEMENTS)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn postgres_options(options: &PgConnectOptions) -> PgConnectOptions {
    options
        .clone()
        .application_name(&format!("spillway broker, process {}", std::process::id()))
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

/// A setting that durability needs: its name, the question, and which answers are wrong.
struct Setting {
    name: &'static str,
    question: &'static str,
    wanted: &'static str,
    is_right: fn(&str) -> bool,
}

const SQLITE_SETTINGS: [Setting; 3] = [
    Setting {
        name: "journal_mode",
        question: "SELECT journal_mode FROM pragma_journal_mode",
        wanted: "wal",
        is_right: |value| value == "wal",
    },
    Setting {
        name: "synchronous",
        question: "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous",
        wanted: "2",
        is_right: |value| matches!(value, "2" | "3"),
    },
    Setting {
        name: "foreign_keys",
        question: "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys",
        wanted: "1",
        is_right: |value| value == "1",
    },
];

const POSTGRES_SETTINGS: [Setting; 4] = [
    Setting {
        name: "synchronous_commit",
        question: "SELECT current_setting('synchronous_commit')",
        wanted: "on",
        is_right: |value| value != "off",
    },
    Setting {
        name: "fsync",
        question: "SELECT current_setting('fsync')",
        wanted: "on",
        is_right: |value| value == "on",
    },
    Setting {
        name: "full_page_writes",
        question: "SELECT current_setting('full_page_writes')",
        wanted: "on",
        is_right: |value| value == "on",
    },
    Setting {
        name: "server_encoding",
        question: "SELECT current_setting('server_encoding')",
        wanted: "UTF8",
        is_right: |value| value == "UTF8",
    },
];

async fn check(connection: &mut Connection, target: &Target, settings: &[Setting]) -> Result<(), StoreError> {
    for setting in settings {
        let answer = connection.fetch(setting.question.into_sql_str(), vec![]).await;
        let rows = answer.map_err(|error| target.sqlx(error))?;
        let value =
            rows.first().map_or(Ok(String::new()), |row| row.text(0)).map_err(|error| target.sqlx(error))?;
        if !(setting.is_right)(&value) {
            let database = target.to_string();
            return Err(StoreError::NotDurable {
                database,
                setting: setting.name,
                value,
                wanted: setting.wanted,
            });
        }
    }
    Ok(())
}

async fn lock_postgres(connection: &mut Connection, target: &Target) -> Result<(), StoreError> {
    let question = "SELECT CAST(pg_try_advisory_lock($1) AS TEXT)";
    let mut waited = Duration::ZERO;
    loop {
        let answer = connection.fetch(question.into_sql_str(), vec![ADVISORY_KEY.into()]).await;
        let rows = answer.map_err(|error| target.sqlx(error))?;
        let got =
            rows.first().map_or(Ok(String::new()), |row| row.text(0)).map_err(|error| target.sqlx(error))?;
        if got == "true" {
            return Ok(());
        }
        if waited >= LOCK_WAIT {
            let holder = holder(connection).await.unwrap_or_else(|_| "unknown".to_owned());
            return Err(StoreError::Locked { database: target.to_string(), holder });
        }
        tokio::time::sleep(LOCK_TRY).await;
        waited += LOCK_TRY;
    }
}

/// Who holds the lock, as its connection called itself.
async fn holder(connection: &mut Connection) -> Result<String, sqlx::Error> {
    let question = "SELECT a.application_name || COALESCE(' at ' || host(a.client_addr), '') \
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
        WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid \
        AND a.datname = current_database() \
        AND (CAST(l.classid AS BIGINT) << 32) + CAST(l.objid AS BIGINT) = $1";
    let rows = connection.fetch(question.into_sql_str(), vec![ADVISORY_KEY.into()]).await?;
    rows.first().map_or(Ok("unknown".to_owned()), |row| row.text(0))
}
