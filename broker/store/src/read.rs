//! What people and pages ask for: jobs, attempts, instances that are gone, the journal, the ledger's entries.

use serde::de::DeserializeOwned;
use spillway_core::entity::{Attempt, Instance, Job};
use spillway_ledger::Entry;
use spillway_types::{AttemptId, CloudName, GroupName, InstanceId, JobId, UnixMs};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::sql::{Row, Value};
use crate::{JournalRow, Store, StoreError, load};

/// Most rows of one answer: what a page shows, many times over; more is asked for page by page.
pub const MAX_PAGE: usize = 1000;

/// Which jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Of these groups; none means all.
    pub groups: Option<Vec<GroupName>>,
    /// In this state, as [`Job::rolled_up`] calls it.
    pub state: Option<String>,
    /// Submitted before this one: the last one of the page before.
    pub before: Option<JobId>,
    /// At most so many, and never over [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self { groups: None, state: None, before: None, limit: 100 }
    }
}

/// What the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The deployment's id; empty before the first start of a broker.
    pub deployment: String,
    /// How often a broker started here.
    pub incarnation: u64,
    /// Number of the newest journal entry.
    pub journal: u64,
}

/// States that no job leaves: only jobs in these can be out of memory.
const FINAL: [&str; 3] = ["succeeded", "failed", "cancelled"];

fn page(limit: usize) -> Value {
    Value::Int(i64::try_from(limit.min(MAX_PAGE)).expect("a page is small"))
}

impl Store {
    /// The job, whether it is over or not.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or the row cannot be read.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.one("SELECT body FROM jobs WHERE id = $1", id.to_string()).await
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>, StoreError> {
        if filter.groups.as_ref().is_some_and(Vec::is_empty) {
            return Ok(vec![]);
        }
        let (sql, values) = jobs_query(filter);
        let rows = self.rows(AssertSqlSafe(sql).into_sql_str(), values).await?;
        load::bodies(&self.inner.target, &rows)
    }

    /// The newest `limit` attempts of a job, in the order in which they were placed.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn attempts_of(&self, job: JobId, limit: usize) -> Result<Vec<Attempt>, StoreError> {
        let mut attempts = self.attempts_before(job, None, limit).await?;
        attempts.reverse();
        Ok(attempts)
    }

    /// The newest `limit` attempts of a job that were placed before `before`, the newest first: a page of an array
    /// with more attempts than one answer holds.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn attempts_before(
        &self,
        job: JobId,
        before: Option<AttemptId>,
        limit: usize,
    ) -> Result<Vec<Attempt>, StoreError> {
        let job = job.to_string().into();
        let Some(before) = before else {
            let sql = "SELECT body FROM attempts WHERE job = $1 ORDER BY id DESC LIMIT $2";
            return self.many(sql, vec![job, page(limit)]).await;
        };
        let sql = "SELECT body FROM attempts WHERE job = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
        self.many(sql, vec![job, before.to_string().into(), page(limit)]).await
    }

    /// The attempt, whether it is settled or not.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn attempt(&self, id: AttemptId) -> Result<Option<Attempt>, StoreError> {
        self.one("SELECT body FROM attempts WHERE id = $1", id.to_string()).await
    }

    /// The instance, whether it is gone or not.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        self.one("SELECT body FROM instances WHERE id = $1", id.to_string()).await
    }

    /// Every instance of a cloud, gone or not, in the order of their ids.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn instances_of(&self, cloud: &CloudName) -> Result<Vec<Instance>, StoreError> {
        let (mut found, mut after) = (vec![], String::new());
        loop {
            let sql = "SELECT body FROM instances WHERE id > $1 ORDER BY id LIMIT $2";
            let next: Vec<Instance> = self.many(sql, vec![after.into(), page(MAX_PAGE)]).await?;
            let Some(last) = next.last() else { return Ok(found) };
            after = last.id.to_string();
            found.extend(next.into_iter().filter(|instance| instance.cloud == *cloud));
        }
    }

    /// The newest `limit` instances that are gone, newest first.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn ended_instances(&self, limit: usize) -> Result<Vec<Instance>, StoreError> {
        let sql = "SELECT body FROM instances WHERE alive = 0 ORDER BY id DESC LIMIT $1";
        self.many(sql, vec![page(limit)]).await
    }

    /// Every ledger entry about an attempt, in the order in which they were posted: what its cost consists of.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn entries_of(&self, attempt: AttemptId) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT body FROM ledger_entries WHERE attempt = $1 ORDER BY journal_seq, entry_key";
        self.many(sql, vec![attempt.to_string().into()]).await
    }

    /// Journal entries with numbers over `after`, in order, at most `limit` of them.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        let target = &self.inner.target;
        // No number is over the largest BIGINT.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT seq, at_ms, body FROM journal WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = self.rows(sql.into_sql_str(), vec![after.into(), limit.into()]).await?;
        let read = |row: &Row| -> Result<(i64, i64, String), sqlx::Error> {
            Ok((row.int(0)?, row.int(1)?, row.text(2)?))
        };
        let entry = |row: &Row| {
            let (seq, at, body) = read(row).map_err(|error| target.sqlx(error))?;
            let seq = u64::try_from(seq).map_err(|_| target.corrupt(format_args!("journal number {seq}")))?;
            Ok(JournalRow { seq, at: UnixMs(at), events: load::parse(target, &body)? })
        };
        rows.iter().map(entry).collect()
    }

    /// What the database is, and how far its journal goes. Cheap: also the question whether it answers.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn meta(&self) -> Result<Meta, StoreError> {
        let sql = "SELECT name, value FROM meta UNION ALL \
            SELECT 'journal', CAST(COALESCE(MAX(seq), 0) AS TEXT) FROM journal";
        let mut rows = self.rows(sql.into_sql_str(), vec![]).await?;
        let target = &self.inner.target;
        // A union's rows have no promised order.
        let is_journal = |row: &Row| row.text(0).is_ok_and(|name| name == "journal");
        let at = rows.iter().position(is_journal).ok_or_else(|| target.corrupt("its journal has no end"))?;
        let newest = rows.swap_remove(at).text(1).map_err(|error| target.sqlx(error))?;
        let journal =
            newest.parse().map_err(|_| target.corrupt(format_args!("its journal ends at `{newest}`")))?;
        let (deployment, incarnation) = load::identity(target, &rows)?;
        Ok(Meta { deployment, incarnation, journal })
    }

    pub(crate) async fn rows(&self, sql: SqlStr, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.inner.readers.fetch(sql, values).await.map_err(|error| self.inner.target.sqlx(error))
    }

    async fn many<T: DeserializeOwned>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.rows(sql.into_sql_str(), values).await?;
        load::bodies(&self.inner.target, &rows)
    }

    async fn one<T: DeserializeOwned>(
        &self,
        sql: &'static str,
        key: String,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.many(sql, vec![key.into()]).await?.pop())
    }
}

fn jobs_query(filter: &JobFilter) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = vec![];
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let mut conditions = vec![];
    if let Some(groups) = &filter.groups {
        let groups: Vec<String> = groups.iter().map(|group| bind(group.as_str().into())).collect();
        conditions.push(format!("group_name IN ({})", groups.join(", ")));
    }
    if let Some(state) = &filter.state {
        conditions.push(format!("state = {}", bind(state.as_str().into())));
        // What is not over is alive: the few, which have an index.
        if !FINAL.contains(&state.as_str()) {
            conditions.push("alive = 1".to_owned());
        }
    }
    if let Some(before) = filter.before {
        conditions.push(format!("id < {}", bind(before.to_string().into())));
    }
    let limit = bind(page(filter.limit));
    let conditions =
        if conditions.is_empty() { String::new() } else { format!("WHERE {} ", conditions.join(" AND ")) };
    (format!("SELECT body FROM jobs {conditions}ORDER BY id DESC LIMIT {limit}"), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_its_conditions() {
        let filter = JobFilter {
            groups: Some(vec!["a".parse().unwrap(), "b".parse().unwrap()]),
            state: Some("running".into()),
            before: None,
            limit: usize::MAX,
        };
        let (sql, values) = jobs_query(&filter);
        assert_eq!(
            sql,
            "SELECT body FROM jobs WHERE group_name IN ($1, $2) AND state = $3 AND alive = 1 ORDER BY id DESC LIMIT $4"
        );
        assert_eq!(values.last(), Some(&Value::Int(1000)));
        let (sql, _) = jobs_query(&JobFilter { state: Some("failed".into()), ..JobFilter::default() });
        assert!(!sql.contains("alive"), "{sql}");
    }
}
