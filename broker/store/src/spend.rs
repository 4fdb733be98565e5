//! Spend by what it was for, and the ledger's sums for the auditor. Both are added up by the database.

use spillway_ledger::Account;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::{Store, StoreError};

/// A dimension of spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpendBy {
    /// The group that pays.
    Group,
    /// The user who submitted.
    User,
    /// Where it ran.
    Site,
    /// Who is paid, as the ledger names the account: `revenue:SITE` or `payable:CLOUD:REGION`.
    Payee,
    /// The job.
    Job,
    /// The attempt.
    Attempt,
    /// The cloud instance; empty where there was none.
    Instance,
    /// `charge`, `overrun` or `overhead`.
    Kind,
    /// `YYYY-MM` in UTC, of the moment when it was posted.
    Month,
}

impl SpendBy {
    const fn column(self) -> &'static str {
        match self {
            Self::Group => "group_name",
            Self::User => "user_name",
            Self::Site => "site",
            Self::Payee => "payee",
            Self::Job => "job",
            Self::Attempt => "attempt",
            Self::Instance => "COALESCE(instance, '')",
            Self::Kind => "kind",
            Self::Month => "month",
        }
    }
}

/// What was spent on one combination of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpendRow {
    /// One for each dimension that was asked for, in that order.
    pub keys: Vec<String>,
    /// In micros of the deployment's currency.
    pub micros: i64,
    /// Accelerator time, in milliseconds of one whole accelerator.
    pub gpu_ms: u64,
}

/// The ledger added up from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Entries.
    pub entries: u64,
    /// Sum of all postings, in micros: 0, or there is a defect.
    pub postings_micros: i64,
    /// Sum of the postings on spend accounts, in micros.
    pub spend_micros: i64,
    /// Sum of the rows that reports are made of, in micros: equal to `spend_micros`.
    pub charges_micros: i64,
    /// Accounts whose balance is not the sum of their postings: none, or there is a defect.
    pub mismatched: Vec<Account>,
}

impl Store {
    /// Spend, on-prem included, added up over `by`; in the order of the keys. One row for all where `by` is empty.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn spend(&self, by: &[SpendBy]) -> Result<Vec<SpendRow>, StoreError> {
        let target = &self.inner.target;
        let columns: String = by.iter().map(|by| format!("{}, ", by.column())).collect();
        let groups: Vec<String> = (1..=by.len()).map(|place| place.to_string()).collect();
        let grouped = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", groups.join(", ")) };
        let sql = format!(
            "SELECT {columns}CAST(COALESCE(SUM(spend_micros), 0) AS BIGINT), CAST(COALESCE(SUM(gpu_ms), 0) AS BIGINT) \
             FROM charges{grouped}"
        );
        let rows = self.rows(AssertSqlSafe(sql).into_sql_str(), vec![]).await?;
        let mut spend = vec![];
        for row in rows {
            let keys: Result<Vec<String>, sqlx::Error> =
                (0..by.len()).map(|column| row.text(column)).collect();
            let sums = |at: usize| row.int(at).map_err(|error| target.sqlx(error));
            let (keys, micros, gpu_ms) =
                (keys.map_err(|error| target.sqlx(error))?, sums(by.len())?, sums(by.len() + 1)?);
            let gpu_ms =
                u64::try_from(gpu_ms).map_err(|_| target.corrupt("accelerator time below 0 was charged"))?;
            spend.push(SpendRow { keys, micros, gpu_ms });
        }
        spend.sort();
        Ok(spend)
    }

    /// The ledger added up from its rows, independently of what the broker has in memory.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn ledger_totals(&self) -> Result<LedgerTotals, StoreError> {
        let target = &self.inner.target;
        // One statement sees one moment.
        let sums = "SELECT (SELECT COUNT(*) FROM ledger_entries), \
            (SELECT CAST(COALESCE(SUM(micros), 0) AS BIGINT) FROM postings), \
            (SELECT CAST(COALESCE(SUM(micros), 0) AS BIGINT) FROM postings WHERE account LIKE 'spend:%'), \
            (SELECT CAST(COALESCE(SUM(spend_micros), 0) AS BIGINT) FROM charges)";
        let rows = self.rows(sums.into_sql_str(), vec![]).await?;
        let sum = |at: usize| {
            let row = rows.first().ok_or(sqlx::Error::RowNotFound);
            row.and_then(|row| row.int(at)).map_err(|error| target.sqlx(error))
        };
        let mismatches = "SELECT account FROM ( \
            SELECT account, micros FROM postings UNION ALL SELECT account, -micros FROM balances \
            ) AS amounts GROUP BY account HAVING SUM(micros) <> 0 ORDER BY account";
        let mut mismatched = vec![];
        for row in self.rows(mismatches.into_sql_str(), vec![]).await? {
            let account = row.text(0).map_err(|error| target.sqlx(error))?;
            mismatched.push(account.parse().map_err(|error| target.corrupt(error))?);
        }
        Ok(LedgerTotals {
            entries: u64::try_from(sum(0)?).map_err(|_| target.corrupt("a count below 0"))?,
            postings_micros: sum(1)?,
            spend_micros: sum(2)?,
            charges_micros: sum(3)?,
            mismatched,
        })
    }
}
