//! Wire types of version 1.
//!
//! Units are in the names or in the types: `Money` is micros with a currency, `HourlyRate` an integer of
//! micros per hour, `UnixMs` and `DurationMs` integers of milliseconds, `blocks` hundredths of an accelerator.

mod account;
mod currency;
mod fleet;
mod job;
mod job_file;
mod ledger;
mod limits;
mod pools;
mod query;
mod scalar;
mod spec;
mod spend;

pub use account::{
    BudgetRequest, GroupRequest, GroupView, JoinLine, JoinTokenRequest, TokenRequest, TokenView, UserRequest,
    UserView,
};
pub use currency::{ExchangeRequest, ExchangeView, currency_table};
pub use fleet::{
    BrokerMode, CloudView, DestinationView, GpuSummary, HealthView, InstanceView, NodeAction, NodeView,
    OfferView, PoolView, SiteView,
};
pub use job::{
    AttemptNode, AttemptView, CandidateView, DelayView, ExplanationView, HeldView, JobState, JobSummary,
    JobView, PlanView, TaskCounts, TaskView,
};
pub use job_file::{
    CheckpointFile, JobFile, JobFileError, MAX_JOB_FILE, ResourcesFile, RetryFile, Run, WhereFile,
};
pub use ledger::{
    CorrectionRequest, CorrectionView, LedgerCheckView, MAX_BILL, MonthView, PeriodView, RatesRequest,
    RatesView, ReconcileQuery, ReconciliationView, RecordView, RecordsQuery,
};
pub use limits::{FairShareView, GroupChange, LimitRequest, LimitView, TransferRequest, TransferView};
pub use pools::{PoolClassView, PoolsQuery, PoolsReport};
pub use query::{
    DEFAULT_PAGE, JobsQuery, LogQuery, MAX_PAGE, MAX_WAIT_MS, OffersQuery, Page, TasksQuery, WaitFor,
    WaitQuery,
};
pub use scalar::Scalar;
pub use spec::JobDefaults;
pub use spend::{
    AnomaliesQuery, AnomaliesView, BudgetWindow, Outlook, PeriodState, SpendAsked, SpendKey, SpendQuery,
    SpendReport, SpendRow, Sums, parse_spend_by,
};
