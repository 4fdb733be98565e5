//! The books of pools.

use super::{Client, ClientError};
use crate::route;
use crate::v1::{PoolsQuery, PoolsReport};

impl Client {
    /// What pools could give in a month, what was used of it, and what nobody used.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pools(&self, query: &PoolsQuery) -> Result<PoolsReport, ClientError> {
        self.read(route::POOLS, query).await
    }
}
