//! The typed client of the API.
//!
//! It does not retry: a submission carries an idempotency key, so that its caller can.

mod currencies;
mod fleet;
mod periods;
mod pools;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_ledger::calendar::Period;
use spillway_types::{GroupName, JobId, Money, PoolName, UserName};

use crate::error::ErrorEnvelope;
use crate::v1::{
    AnomaliesQuery, AnomaliesView, BudgetRequest, CorrectionRequest, CorrectionView, FairShareView,
    GroupChange, GroupRequest, GroupView, JobFile, JobSummary, JobView, JobsQuery, LedgerCheckView,
    LimitRequest, LimitView, LogQuery, MAX_WAIT_MS, Page, PlanView, RatesRequest, RatesView, ReconcileQuery,
    ReconciliationView, RecordView, RecordsQuery, SpendQuery, SpendReport, TaskView, TasksQuery,
    TokenRequest, TokenView, TransferRequest, TransferView, UserRequest, UserView, WaitFor, WaitQuery,
};
use crate::{ApiError, ErrorCode, Secret, route};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take that does not wait for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may take that goes over the whole ledger.
const LONG_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest answer that is read: the largest page with room to spare.
const MAX_ANSWER: usize = 64 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("`{url}` is not the URL of a broker: write it like http://127.0.0.1:7878")]
    Url {
        /// What was given.
        url: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot start")]
    Setup(#[source] reqwest::Error),
    /// Nobody answers there.
    #[error(
        "cannot reach the broker at {url}: is `spillway broker` running? --server or SPILLWAY_SERVER names another address"
    )]
    Unreachable {
        /// Where the broker was looked for.
        url: String,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// The broker did not answer in time.
    #[error("the broker at {url} did not answer in time")]
    Timeout {
        /// Where the broker is.
        url: String,
    },
    /// The answer broke off or cannot be read.
    #[error("the answer of the broker at {url} cannot be read: {problem}")]
    Answer {
        /// Where the broker is.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The broker said no.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A broker as one user sees it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

impl Client {
    /// A client of the broker at `base`, for example `http://127.0.0.1:7878`.
    ///
    /// # Errors
    /// [`ClientError::Url`] where `base` is not an `http` or `https` URL, [`ClientError::Setup`] where TLS
    /// cannot be set up.
    pub fn new(base: &str, token: Option<Secret>) -> Result<Self, ClientError> {
        let refused = || ClientError::Url { url: base.to_owned() };
        let url = Url::parse(base).map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refused());
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("spillway/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // It never speaks TLS, as redirects are not followed; reading the system's certificates takes longer
            // than a submission.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, base: url, token })
    }

    /// Where the broker is.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Submits a job. The same key with the same job gives the same job again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(&self, job: &JobFile, idempotency_key: &str) -> Result<JobSummary, ClientError> {
        let request = self.request(Method::POST, route::JOBS).header(route::IDEMPOTENCY_KEY, idempotency_key);
        self.answer(request.json(job), ANSWER_TIMEOUT).await
    }

    /// Says what would be done with a job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn plan(&self, job: &JobFile) -> Result<PlanView, ClientError> {
        self.send(Method::POST, route::PLAN, job).await
    }

    /// One page of jobs, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self, query: &JobsQuery) -> Result<Page<JobSummary>, ClientError> {
        self.read(route::JOBS, query).await
    }

    /// One job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.read(&route::job(id), &WaitQuery::default()).await
    }

    /// One job, when it has reached a final state or after `timeout` (at most [`MAX_WAIT_MS`]).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait_for_job(&self, id: JobId, timeout: Duration) -> Result<JobView, ClientError> {
        let wait_ms = u64::try_from(timeout.as_millis()).unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS);
        let query = WaitQuery { wait_for: Some(WaitFor::Final), timeout_ms: Some(wait_ms) };
        let request = self.request(Method::GET, &route::job(id)).query(&query);
        self.answer(request, ANSWER_TIMEOUT + Duration::from_millis(wait_ms)).await
    }

    /// Cancels a job. One that has ended is a conflict, and stays as it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel(&self, id: JobId) -> Result<JobSummary, ClientError> {
        self.answer(self.request(Method::POST, &route::job_cancel(id)), ANSWER_TIMEOUT).await
    }

    /// Keeps the waiting tasks of a job from being placed. A job of which nothing waits is a conflict.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn hold(&self, id: JobId) -> Result<JobSummary, ClientError> {
        self.answer(self.request(Method::POST, &route::job_hold(id)), ANSWER_TIMEOUT).await
    }

    /// Lets a held job go on; an admin's hold is released by admins only.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&self, id: JobId) -> Result<JobSummary, ClientError> {
        self.answer(self.request(Method::POST, &route::job_release(id)), ANSWER_TIMEOUT).await
    }

    /// Puts a waiting job before the others of its group; an admin's before those of all groups.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn top(&self, id: JobId) -> Result<JobSummary, ClientError> {
        self.answer(self.request(Method::POST, &route::job_top(id)), ANSWER_TIMEOUT).await
    }

    /// One page of a job's tasks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tasks(&self, id: JobId, query: &TasksQuery) -> Result<Page<TaskView>, ClientError> {
        self.read(&route::job_tasks(id), query).await
    }

    /// What a job's program wrote, piece by piece. With `follow` it goes on until the task ends.
    ///
    /// # Errors
    /// [`ClientError`]; each piece can fail too.
    pub async fn logs(
        &self,
        id: JobId,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let response = self.begin(self.request(Method::GET, &route::job_logs(id)).query(query)).await?;
        let url = self.base().to_owned();
        Ok(response.bytes_stream().map(move |piece| {
            piece.map_err(|error| ClientError::Answer {
                url: url.clone(),
                problem: format!("it broke off: {error}"),
            })
        }))
    }

    /// The groups that the user may see.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn groups(&self) -> Result<Page<GroupView>, ClientError> {
        self.read(route::GROUPS, &()).await
    }

    /// Makes a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_group(&self, group: &GroupRequest) -> Result<GroupView, ClientError> {
        self.send(Method::POST, route::GROUPS, group).await
    }

    /// Sets a group's budget; none takes the limit away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_budget(
        &self,
        group: &GroupName,
        budget: Option<Money>,
    ) -> Result<GroupView, ClientError> {
        self.send(Method::PUT, &route::group_budget(group), &BudgetRequest { budget }).await
    }

    /// Changes a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_group(
        &self,
        group: &GroupName,
        change: &GroupChange,
    ) -> Result<GroupView, ClientError> {
        self.send(Method::PUT, &route::group(group), change).await
    }

    /// Removes a group that nothing is below, that has no members, and that nothing was posted for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_group(&self, group: &GroupName) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &route::group(group));
        self.answer::<serde_json::Value>(request, ANSWER_TIMEOUT).await.map(drop)
    }

    /// What the groups that the user may see may use.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn limits(&self) -> Result<Page<LimitView>, ClientError> {
        self.read(route::LIMITS, &()).await
    }

    /// Sets a limit, or takes it away where it has no amount. Gives the group's limits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_limit(&self, limit: &LimitRequest) -> Result<Page<LimitView>, ClientError> {
        self.send(Method::PUT, route::LIMITS, limit).await
    }

    /// The transfers of budget between groups that the user may see.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transfers(&self) -> Result<Page<TransferView>, ClientError> {
        self.read(route::TRANSFERS, &()).await
    }

    /// Gives budget of one group to another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transfer(&self, transfer: &TransferRequest) -> Result<TransferView, ClientError> {
        self.send(Method::POST, route::TRANSFERS, transfer).await
    }

    /// Who used how much of the own share this month.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fair_share(&self) -> Result<Page<FairShareView>, ClientError> {
        self.read(route::FAIR_SHARE, &()).await
    }

    /// The users that the user may see.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self) -> Result<Page<UserView>, ClientError> {
        self.read(route::USERS, &()).await
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_user(&self, user: &UserRequest) -> Result<UserView, ClientError> {
        self.send(Method::POST, route::USERS, user).await
    }

    /// Makes a token of a user.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(
        &self,
        user: &UserName,
        token: &TokenRequest,
    ) -> Result<TokenView, ClientError> {
        self.send(Method::POST, &route::user_tokens(user), token).await
    }

    /// What was spent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn spend(&self, query: &SpendQuery) -> Result<SpendReport, ClientError> {
        self.read(route::SPEND, query).await
    }

    /// Days whose spend is out of the ordinary.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn anomalies(&self, query: &AnomaliesQuery) -> Result<AnomaliesView, ClientError> {
        self.read(route::SPEND_ANOMALIES, query).await
    }

    /// Records of the ledger with numbers over `after`, in order; none at its end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ledger(&self, after: u64) -> Result<Page<RecordView>, ClientError> {
        self.read(route::LEDGER, &RecordsQuery { after, period: None }).await
    }

    /// Records with numbers over `after` that are booked into a period, in order; none at its end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn booked(&self, period: Period, after: u64) -> Result<Page<RecordView>, ClientError> {
        self.read(route::LEDGER, &RecordsQuery { after, period: Some(period) }).await
    }

    /// Follows the ledger's chain and makes every balance and every closed export again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify_ledger(&self) -> Result<LedgerCheckView, ClientError> {
        self.answer(self.request(Method::POST, route::LEDGER_VERIFY), LONG_TIMEOUT).await
    }

    /// The rate cards of pools.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rates(&self) -> Result<Page<RatesView>, ClientError> {
        self.read(route::RATES, &()).await
    }

    /// Sets a pool's rate card.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_rates(&self, pool: &PoolName, card: &RatesRequest) -> Result<RatesView, ClientError> {
        self.send(Method::PUT, &route::pool_rates(pool), card).await
    }

    /// Corrects what a record of the ledger charged.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn correct(&self, correction: &CorrectionRequest) -> Result<CorrectionView, ClientError> {
        self.send(Method::POST, route::CORRECTIONS, correction).await
    }

    /// Holds a provider's bill against what was charged. Changes nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reconcile(
        &self,
        query: &ReconcileQuery,
        bill: Vec<u8>,
    ) -> Result<ReconciliationView, ClientError> {
        let request = self.request(Method::POST, route::RECONCILE).query(query).body(bill);
        self.answer(request, LONG_TIMEOUT).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.answer(self.request(Method::GET, path).query(query), ANSWER_TIMEOUT).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.answer(self.request(method, path).json(body), ANSWER_TIMEOUT).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base()));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let response = self.begin(request.timeout(timeout)).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.unreadable(&error))
    }

    /// Sends a request; an answer that is an error becomes one.
    async fn begin(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await?;
        Err(ClientError::Api(match serde_json::from_slice::<ErrorEnvelope>(&body) {
            Ok(envelope) => envelope.error,
            Err(_) => bare_error(status),
        }))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, ClientError> {
        let mut pieces = response.bytes_stream();
        let mut body = Vec::new();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|error| self.failed(error))?);
            if body.len() > MAX_ANSWER {
                return Err(self.unreadable(&"it is over 64 MiB"));
            }
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        let url = self.base().to_owned();
        if error.is_connect() {
            ClientError::Unreachable { url, source: error.without_url() }
        } else if error.is_timeout() {
            ClientError::Timeout { url }
        } else {
            let error = error.without_url();
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            ClientError::Answer { url, problem: format!("{error}{cause}") }
        }
    }

    fn unreadable(&self, problem: &dyn std::fmt::Display) -> ClientError {
        ClientError::Answer { url: self.base().to_owned(), problem: problem.to_string() }
    }
}

/// The error of an answer without an envelope: something between us and the broker wrote it.
fn bare_error(status: StatusCode) -> ApiError {
    ApiError::new(
        ErrorCode::from_status(status.as_u16()),
        format!("the server answered {status} and said no more"),
    )
    .hint("check that the address is a Spillway broker's")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
