//! Draws the API's views as text. Pure: a view and a [`Look`](crate::output::Look) give lines.

pub(crate) mod account;
pub(crate) mod currency;
pub(crate) mod fleet;
pub(crate) mod job;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod pools;
pub(crate) mod spend;
pub(crate) mod value;
