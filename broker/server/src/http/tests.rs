//! The API over a real socket, with a real engine on a SQLite file.

mod access;
mod accounts;
mod currencies;
mod doors;
mod fleet;
mod jobs;
mod ledger;
mod limits;
mod live;
mod logs;
mod pools;
mod spend;
pub(crate) mod world;
