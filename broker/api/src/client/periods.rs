//! Months of the books: open and closed, their manifests and exports.

use reqwest::Method;
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::SiteManifest;

use super::{Client, ClientError, LONG_TIMEOUT};
use crate::route;
use crate::v1::{MonthView, Page, PeriodView};

impl Client {
    /// A month of the books, open or closed.
    ///
    /// # Errors
    /// [`ClientError`]; `not-found` where nothing is booked into it and it is not the month that goes on.
    pub async fn period(&self, period: Period) -> Result<MonthView, ClientError> {
        self.read(&route::period(period), &()).await
    }

    /// The closed periods.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn periods(&self) -> Result<Page<PeriodView>, ClientError> {
        self.read(route::PERIODS, &()).await
    }

    /// Closes a period and freezes its export; again where it is closed, to freeze what was not frozen.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close_period(&self, period: Period) -> Result<PeriodView, ClientError> {
        self.answer(self.request(Method::POST, &route::period_close(period)), LONG_TIMEOUT).await
    }

    /// What was here of each site's usage when a period was closed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn period_manifests(&self, period: Period) -> Result<Page<SiteManifest>, ClientError> {
        self.read(&route::period_manifests(period), &()).await
    }

    /// A period's export, as CSV.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn period_export(&self, period: Period) -> Result<Vec<u8>, ClientError> {
        let request = self.request(Method::GET, &route::period_export(period)).timeout(LONG_TIMEOUT);
        let response = self.begin(request).await?;
        self.body(response).await
    }
}
