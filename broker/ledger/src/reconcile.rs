//! A provider's bill against what was charged.
//!
//! [`Bill::read`] reads a FOCUS or CUR file as a whole or not at all. [`reconcile`] joins its lines and our charges
//! on resource x time and says of each pair what differs: the price, the time, or that one side knows nothing of it.
//! What it finds is posted as a statement ([`Reconciliation::statement`]); after that the sum of every invoice is the
//! provider's.

mod bill;
mod decimal;
mod join;

pub use bill::{Bill, BillError, BillFormat, BillLine, MAX_BILL_BYTES};
pub use decimal::{Decimal, DecimalError};
pub use join::{Finding, OurCharge, Reconciliation, Verdict, reconcile};
