//! What a job's inputs take at a place: the bytes that are not there, what their providers take for them, and how
//! long they are on the way.

use spillway_types::{DataMap, DatasetName, SiteName};

/// What has to be moved before a job can run at a site; nothing where all its inputs are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moving {
    pub(crate) bytes: u64,
    /// For all of it, in micros: what one job pays where no other waits for the same data.
    pub(crate) egress_micros: i64,
    /// One dataset after the other, each over its link alone.
    pub(crate) ms: i64,
}

impl Moving {
    /// Copies are read where they cost least.
    pub(crate) fn to(site: &SiteName, inputs: &[DatasetName], data: &DataMap) -> Self {
        let transfers = inputs.iter().filter_map(|input| data.transfer(input, site));
        transfers.fold(Self::default(), |sum, transfer| Self {
            bytes: sum.bytes.saturating_add(transfer.bytes),
            egress_micros: sum.egress_micros.saturating_add(transfer.egress_micros),
            ms: sum.ms.saturating_add(i64::try_from(transfer.ms).unwrap_or(i64::MAX / 8)).min(i64::MAX / 8),
        })
    }
}
