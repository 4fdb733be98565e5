//! Journal and state in SQLite or PostgreSQL, in one transaction.
//!
//! - [`Store::commit`] writes the journal entries, the rows of everything they touched, and the ledger's entries
//!   in one transaction. When it returns, all of it is durable; when it fails, nothing of it is there, save that a
//!   lost connection to PostgreSQL can leave that open: whoever gets an error loads again before going on.
//! - [`Store::load`] gives the state that was committed last, equal to the one in memory then.
//! - Journal numbers have no gap and never repeat, and a ledger key is posted once: both are primary keys, and a
//!   write that would break them is refused as [`StoreError::Conflict`].
//! - One broker at a time: a lock beside the SQLite file, an advisory lock in PostgreSQL, held as long as the
//!   store is open.
//! - Reads have connections of their own and never wait for the writer. They see what is committed.
//!
//! The schema is one for both databases; every statement is made at run time, so that no database is needed to
//! compile. Left out on purpose: clocks (times come with the rows), deciding anything, and deleting history.

mod error;
mod sql;
mod tables;

mod lock;
mod migrate;
mod open;
mod target;

mod batch;
mod charge;
mod ledger;
mod load;
mod read;
mod report;
mod rollup;
mod spend;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use spillway_core::State;
use tokio::sync::Mutex;

pub use batch::{Batch, JournalRow, Prepared};
pub use error::StoreError;
pub use ledger::LedgerCheck;
pub use read::{JobFilter, MAX_PAGE, Meta};
pub use report::{ReportBy, ReportQuery, ReportRow};
pub use spend::{LedgerTotals, SpendBy, SpendRow};

/// An open database. Clones share it; it is closed with the last one.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: target::Target,
    readers: sql::Readers,
    writer: Mutex<write::Writer>,
}

impl Store {
    /// Opens the database, makes it where it does not exist, brings its schema up to date, and locks it against
    /// other brokers. `sqlite:/var/lib/spillway/spillway.db` or `postgres://user@host/database`.
    ///
    /// # Errors
    /// [`StoreError`]: the URL is none, another broker has the database open, it cannot be written, its settings
    /// would lose acknowledged writes, or a newer version wrote it.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let (target, readers, writer) = open::open(url).await?;
        Ok(Self { inner: Arc::new(Inner { target, readers, writer: Mutex::new(writer) }) })
    }

    /// Closes the connections and gives the lock back. Every later call fails.
    ///
    /// # Errors
    /// [`StoreError`] where the database did not take leave in order; it is closed all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.readers.close().await;
        self.inner.writer.lock().await.close().await
    }

    /// The state that was committed last, read at once under the writer's lock.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or a row cannot be read.
    pub async fn load(&self) -> Result<State, StoreError> {
        load::load(&mut *self.inner.writer.lock().await).await
    }

    /// Writes a batch in one transaction; it is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; see the crate's documentation for what is then in the database.
    pub async fn commit(&self, batch: Batch<'_>) -> Result<(), StoreError> {
        let prepared = self.prepare(&batch)?;
        drop(batch);
        self.write(prepared).await
    }

    /// The first half of [`Store::commit`]: makes the rows, without touching the database. The state may change
    /// from then on.
    ///
    /// # Errors
    /// [`StoreError::Other`] where the batch does not fit together: a defect of the caller.
    pub fn prepare(&self, batch: &Batch<'_>) -> Result<Prepared, StoreError> {
        Prepared::new(batch).map_err(|what| self.inner.target.other(what))
    }

    /// The second half of [`Store::commit`]: writes the rows in one transaction. Batches are written in the order
    /// in which they were prepared; another order is refused.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn write(&self, prepared: Prepared) -> Result<(), StoreError> {
        self.inner.writer.lock().await.write(prepared).await
    }
}
