//! The client's calls on what currencies are worth.

use reqwest::Method;
use spillway_types::Currency;

use super::{Client, ClientError};
use crate::route;
use crate::v1::{ExchangeRequest, ExchangeView, Page};

impl Client {
    /// What currencies are worth, each from which day on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn currencies(&self) -> Result<Page<ExchangeView>, ClientError> {
        self.read(route::CURRENCIES, &()).await
    }

    /// Sets what a currency is worth from a day on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_currency(
        &self,
        currency: Currency,
        exchange: &ExchangeRequest,
    ) -> Result<ExchangeView, ClientError> {
        self.send(Method::PUT, &route::currency(currency), exchange).await
    }
}
