//! The writer: one connection, one transaction at a time, all of it or nothing.
//!
//! Rows go in statements of 128, 64, ... 1 rows, so that a batch of any size needs few statements and each of
//! them stays prepared. After a failure the connection is brought back to no transaction, or given up and made
//! again at the next write, with its lock. A write that was dropped half-way is rolled back by the next one.

use std::collections::BTreeMap;

use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Head, Link};
use spillway_types::UnixMs;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::batch::{Prepared, Rows, linked};
use crate::lock::FileLock;
use crate::sql::{Connection, Row, Value};
use crate::tables::MAX_ROWS;
use crate::target::Target;
use crate::{StoreError, open};

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    /// Begun and not known to have ended.
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Insert,
    Delete,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) target: Target,
    /// None after it was lost or closed.
    connection: Option<Connection>,
    /// None once the store is closed.
    lock: Lock,
    transaction: Transaction,
    /// The newest journal number that is written; none where that is not known.
    newest: Option<u64>,
    /// Where the ledger's chain ends; none where that is not known.
    head: Option<Head>,
    statements: BTreeMap<(Verb, &'static str, usize), SqlStr>,
}

#[derive(Debug)]
enum Lock {
    /// The connection itself holds it.
    InConnection,
    Beside(#[expect(dead_code, reason = "held for what its end does")] FileLock),
    /// The store was closed.
    GivenBack,
}

impl Writer {
    pub(crate) fn new(target: Target, connection: Connection, lock: Option<FileLock>) -> Self {
        Self {
            target,
            connection: Some(connection),
            lock: lock.map_or(Lock::InConnection, Lock::Beside),
            transaction: Transaction::None,
            newest: None,
            head: None,
            statements: BTreeMap::new(),
        }
    }

    /// Rows as they are committed.
    pub(crate) async fn fetch(&mut self, sql: &'static str) -> Result<Vec<Row>, StoreError> {
        self.settle().await?;
        let fetched = self.connection().await?.fetch(sql.into_sql_str(), vec![]).await;
        fetched.map_err(|error| self.lost(error))
    }

    /// The newest journal number, asked anew.
    pub(crate) async fn newest(&mut self) -> Result<u64, StoreError> {
        let rows = self.fetch("SELECT COALESCE(MAX(seq), 0) FROM journal").await?;
        let newest = rows.first().map_or(Ok(0), |row| row.int(0)).map_err(|error| self.target.sqlx(error))?;
        let newest =
            u64::try_from(newest).map_err(|_| self.target.corrupt("the journal has a number below 0"))?;
        self.newest = Some(newest);
        Ok(newest)
    }

    /// Where the ledger's chain ends.
    async fn head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let rows = self
            .fetch(
                "SELECT chain_seq, hash FROM ledger_entries WHERE chain_seq IS NOT NULL \
            ORDER BY chain_seq DESC LIMIT 1",
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Head::default()) };
        let read = row.int(0).and_then(|seq| Ok((seq, row.text(1)?)));
        let (seq, hash) = read.map_err(|error| self.target.sqlx(error))?;
        let seq = u64::try_from(seq).map_err(|_| self.target.corrupt("the ledger has a number below 0"))?;
        Ok(Head { seq, hash: hash.parse().map_err(|error| self.target.corrupt(error))? })
    }

    /// Links the entries that were written before there was a chain, in one transaction.
    pub(crate) async fn seal(&mut self) -> Result<(), StoreError> {
        let unlinked =
            "SELECT entry_key FROM ledger_entries WHERE chain_seq IS NULL ORDER BY journal_seq, entry_key";
        let rows = self.fetch(unlinked).await?;
        if rows.is_empty() {
            return Ok(());
        }
        tracing::info!(entries = rows.len(), "entries of an older version are linked to the ledger's chain");
        let head = self.head().await?;
        let sealed = self.seal_rows(&rows, head).await;
        self.head = None;
        match sealed {
            Ok(()) => {
                self.transaction = Transaction::None;
                Ok(())
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    async fn seal_rows(&mut self, keys: &[Row], mut head: Head) -> Result<(), StoreError> {
        let Self { connection: Some(connection), transaction, target, .. } = self else {
            return Err(self.target.sqlx(sqlx::Error::PoolClosed));
        };
        let failed = |error| target.sqlx(error);
        *transaction = Transaction::Open;
        connection.execute("BEGIN".into_sql_str(), vec![]).await.map_err(failed)?;
        // Keys are looked up here only.
        let index = "CREATE INDEX entries_to_link ON ledger_entries (entry_key)";
        connection.execute(index.into_sql_str(), vec![]).await.map_err(failed)?;
        for key in keys {
            let key = key.text(0).map_err(failed)?;
            let ask = "SELECT e.body, j.at_ms FROM ledger_entries e JOIN journal j ON j.seq = e.journal_seq \
                WHERE e.entry_key = $1";
            let rows =
                connection.fetch(ask.into_sql_str(), vec![key.as_str().into()]).await.map_err(failed)?;
            let row = rows
                .first()
                .ok_or_else(|| target.corrupt(format_args!("entry `{key}` has no journal entry")))?;
            let (body, at) = (row.text(0).map_err(failed)?, UnixMs(row.int(1).map_err(failed)?));
            let booked = Period::of(at, &Zone::utc());
            let seq = head.seq.saturating_add(1);
            let link = Link { seq, effective_at: at, recorded_at: at, booked, key: &key, body: &body };
            head = Head { seq, hash: link.hash(head.hash) };
            let write = "UPDATE ledger_entries SET chain_seq = $1, effective_ms = $2, recorded_ms = $3, booked = $4, \
                hash = $5 WHERE entry_key = $6";
            let number = i64::try_from(seq).unwrap_or(i64::MAX);
            let values: Vec<Value> = vec![
                number.into(),
                at.0.into(),
                at.0.into(),
                booked.to_string().into(),
                head.hash.to_string().into(),
                key.into(),
            ];
            connection.execute(write.into_sql_str(), values).await.map_err(failed)?;
        }
        connection.execute("DROP INDEX entries_to_link".into_sql_str(), vec![]).await.map_err(failed)?;
        connection.execute("COMMIT".into_sql_str(), vec![]).await.map_err(failed)
    }

    pub(crate) async fn write(&mut self, prepared: Prepared) -> Result<(), StoreError> {
        self.settle().await?;
        let newest = match self.newest {
            Some(newest) => newest,
            None => self.newest().await?,
        };
        if let Some((first, _)) = prepared.journal.filter(|(first, _)| *first != newest + 1) {
            let what = format!("its journal ends at {newest}, and what was to be written begins at {first}");
            return Err(StoreError::Conflict { database: self.target.to_string(), what });
        }
        let last = prepared.journal.map_or(newest, |(_, last)| last);
        let mut prepared = prepared;
        let (rows, head) = linked(std::mem::take(&mut prepared.entries), self.head().await?);
        prepared.inserts.extend(rows);
        // Until it is known to be written, the ends of the journal and of the chain are not known.
        (self.newest, self.head) = (None, None);
        match self.run(prepared).await {
            Ok(()) => {
                self.transaction = Transaction::None;
                (self.newest, self.head) = (Some(last), Some(head));
                Ok(())
            }
            Err(error) => {
                let error = self.lost(error);
                self.roll_back().await;
                Err(error)
            }
        }
    }

    #[cfg(test)]
    pub(crate) async fn meddle(&mut self, sql: SqlStr) -> Result<(), StoreError> {
        self.settle().await?;
        let done = self.connection().await?.execute(sql, vec![]).await;
        done.map_err(|error| self.target.sqlx(error))
    }

    pub(crate) async fn close(&mut self) -> Result<(), StoreError> {
        self.lock = Lock::GivenBack;
        match self.connection.take() {
            Some(connection) => connection.close().await.map_err(|error| self.target.sqlx(error)),
            None => Ok(()),
        }
    }

    async fn run(&mut self, prepared: Prepared) -> Result<(), sqlx::Error> {
        let Self { connection: Some(connection), statements, transaction, .. } = self else {
            return Err(sqlx::Error::PoolClosed);
        };
        // SQLite takes its write lock at once, so that nothing fails for it later; PostgreSQL has rows' locks.
        let begin = match connection {
            Connection::Sqlite(_) => "BEGIN IMMEDIATE",
            Connection::Postgres(_) => "BEGIN",
        };
        *transaction = Transaction::Open;
        connection.execute(begin.into_sql_str(), vec![]).await?;
        for rows in prepared.deletes {
            run_rows(connection, statements, Verb::Delete, rows).await?;
        }
        for rows in prepared.inserts {
            run_rows(connection, statements, Verb::Insert, rows).await?;
        }
        connection.execute("COMMIT".into_sql_str(), vec![]).await
    }

    /// Makes the connection fit for a statement.
    async fn settle(&mut self) -> Result<(), StoreError> {
        self.roll_back().await;
        self.connection().await.map(drop)
    }

    /// Ends a transaction that was left open: by a failure, or by a caller that went away. Where that fails, the
    /// connection is given up, which ends it too.
    async fn roll_back(&mut self) {
        if self.transaction == Transaction::Open
            && let Some(connection) = &mut self.connection
            && let Err(error) = connection.execute("ROLLBACK".into_sql_str(), vec![]).await
            // SQLite rolls some failures back by itself.
            && !error.to_string().contains("no transaction is active")
        {
            tracing::warn!("the connection to the {} is given up: it cannot roll back: {error}", self.target);
            self.connection = None;
        }
        self.transaction = Transaction::None;
    }

    async fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if matches!(self.lock, Lock::GivenBack) {
            return Err(self.target.sqlx(sqlx::Error::PoolClosed));
        }
        if self.connection.is_none() {
            (self.newest, self.head) = (None, None);
            self.connection = Some(open::connect(&self.target).await?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }

    /// Gives the connection up where the error says that it is of no more use.
    fn lost(&mut self, error: sqlx::Error) -> StoreError {
        if matches!(
            error,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed
        ) {
            self.connection = None;
        }
        self.target.sqlx(error)
    }
}

async fn run_rows(
    connection: &mut Connection,
    statements: &mut BTreeMap<(Verb, &'static str, usize), SqlStr>,
    verb: Verb,
    rows: Rows,
) -> Result<(), sqlx::Error> {
    let width = match verb {
        Verb::Insert => rows.table.width(),
        Verb::Delete => 1,
    };
    let mut left = rows.values.len() / width;
    let mut values = rows.values.into_iter();
    while left > 0 {
        let size = chunk(left);
        let dialect = connection.dialect();
        let sql = statements.entry((verb, rows.table.id, size)).or_insert_with(|| {
            let sql = match verb {
                Verb::Insert => rows.table.insert(size, dialect),
                Verb::Delete => rows.table.delete(size, dialect),
            };
            AssertSqlSafe(std::sync::Arc::<str>::from(sql)).into_sql_str()
        });
        let bound: Vec<Value> = values.by_ref().take(size * width).collect();
        connection.execute(sql.clone(), bound).await?;
        left -= size;
    }
    Ok(())
}

/// The largest power of two that is not over `left` and not over [`MAX_ROWS`].
fn chunk(left: usize) -> usize {
    (1 << left.ilog2()).min(MAX_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_few_statements() {
        let sizes = |mut left: usize| {
            let mut sizes = vec![];
            while left > 0 {
                sizes.push(chunk(left));
                left -= chunk(left);
            }
            sizes
        };
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(7), [4, 2, 1]);
        assert_eq!(sizes(300), [128, 128, 32, 8, 4]);
    }
}
