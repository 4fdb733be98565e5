//! Holds, rating, double entry and budgets, as pure functions.
//!
//! What groups may use is [`limits`], in the [`window`]s of their time zones; who is next is [`fairshare`].
//!
//! The way of the money of one attempt: [`Hold::place`] reserves it, [`SliceBook::accept`] turns usage reports
//! into slices that tile the run, [`Hold::charge`] moves reserved money to spend slice by slice, and
//! [`Hold::settle`] gives the rest back. Each step makes [`Entry`]s, which sum to zero or do not exist;
//! [`Book::apply`] posts them and keeps what every group has spent and holds, for itself and all below it.
//!
//! [`rates`] says what use costs, [`journal`] keeps every fact in a chain of hashes and closes periods, [`reconcile`]
//! holds it against a provider's bill, [`hledger`] exports it, [`rollup`] adds it up for reports, [`anomaly`] and
//! [`forecast`] look at what was spent; all cut and bucket by [`calendar`].
//!
//! Invariants: the book's imbalance is 0; the entries of a settled attempt leave `held` and `committed` as they
//! found them; without an overrun spent + held stays within the limit of every ancestor.
//!
//! Left out on purpose: books in several currencies (what is priced in another one is converted when it is posted).
//! A [`Book`] does not remember which entries were posted: that an entry's key is posted once is the store's unique
//! index.

mod account;
pub mod calendar;
mod entry;
mod hold;
mod tiling;
mod usage;

mod book;
mod refusal;

pub mod journal;
pub mod rates;

pub mod anomaly;
pub mod forecast;
pub mod hledger;
pub mod reconcile;
pub mod rollup;

pub mod fairshare;
pub mod limits;
pub mod tree;
pub mod window;

#[cfg(test)]
mod properties;

pub use account::{Account, AccountError, Payee};
pub use book::{Book, GroupError, Limit};
pub use entry::{Amendment, Entry, EntryKind, Posting, Subject, Unbalanced, overhead_entry};
pub use hold::{Hold, HoldState, Slice};
pub use refusal::{BudgetRefusal, RefusalKind};
pub use tiling::{Accepted, SliceBook, TilingError};
pub use usage::{PricedIn, Usage};
