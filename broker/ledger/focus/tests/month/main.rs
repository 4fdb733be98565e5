//! A whole month as an export: what is written, what the checker finds in it when something is broken, and what the
//! public validator says, and what another database adds up.

mod charges;
mod defects;
mod export;
mod sums;
mod validator;
