//! The ledger's chain as it is stored: read in order, verified, and exported.

use std::collections::BTreeMap;

use spillway_ledger::Account;
use spillway_ledger::Entry;
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{
    Closed, Defect, Digest, Exporter, Head, Record, SiteManifest, Verifier, check_manifests,
};
use spillway_types::UnixMs;
use sqlx::SqlSafeStr as _;

use crate::sql::{Row, Value};
use crate::{MAX_PAGE, Store, StoreError, load};

/// How often the end of the chain and the balances are read until they are of one moment: something may be posted
/// between the two readings.
const MAX_READINGS: u32 = 16;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCheck {
    /// How far the chain was followed.
    pub head: Head,
    /// Accounts with a balance.
    pub accounts: u64,
    /// Closed periods whose export was made again, and whose manifests were checked.
    pub periods: u64,
    /// Rows of the roll-ups that were made again from the journal.
    pub rollups: u64,
    /// What is wrong; none where all is as it was written.
    pub defect: Option<Defect>,
}

impl Store {
    /// Records of the ledger with numbers over `after`, in order, at most `limit` and [`MAX_PAGE`] of them.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or a row cannot be read.
    pub async fn ledger_records(&self, after: Head, limit: usize) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT chain_seq, effective_ms, recorded_ms, booked, entry_key, body, hash FROM ledger_entries \
            WHERE chain_seq > $1 ORDER BY chain_seq LIMIT $2";
        let rows = self.rows(sql.into_sql_str(), vec![number(after.seq), limited(limit)]).await?;
        let mut previous = after.hash;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let record = self.record(row, previous)?;
            previous = record.hash;
            records.push(record);
        }
        Ok(records)
    }

    /// Records that are booked into a period, with numbers over `after`, in order, at most `limit` and [`MAX_PAGE`] of
    /// them. Others lie between them, so none knows the hash before it: that is zero.
    ///
    /// # Errors
    /// As [`Store::ledger_records`].
    pub async fn booked_records(
        &self,
        period: Period,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT chain_seq, effective_ms, recorded_ms, booked, entry_key, body, hash FROM ledger_entries \
            WHERE booked = $1 AND chain_seq > $2 ORDER BY chain_seq LIMIT $3";
        let values = vec![period.to_string().into(), number(after), limited(limit)];
        let rows = self.rows(sql.into_sql_str(), values).await?;
        rows.iter().map(|row| self.record(row, Digest::default())).collect()
    }

    /// The number of the newest record; 0 where there is none.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn newest_record(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(chain_seq), 0) FROM ledger_entries";
        let rows = self.rows(sql.into_sql_str(), vec![]).await?;
        let newest = rows.first().map_or(Ok(0), |row| row.int(0));
        let newest = newest.map_err(|error| self.inner.target.sqlx(error))?;
        u64::try_from(newest).map_err(|_| self.inner.target.corrupt(format_args!("ledger number {newest}")))
    }

    /// Whether what the entry charged was taken back.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn is_corrected(&self, entry: &Entry) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM ledger_entries WHERE slice_ms = $1 AND entry_key = $2";
        let slice_ms = entry.effective_at().map_or(0, |at| at.0);
        let key = format!("{}/reversal", entry.key());
        let rows = self.rows(sql.into_sql_str(), vec![slice_ms.into(), key.into()]).await?;
        let count = rows.first().map_or(Ok(0), |row| row.int(0));
        Ok(count.map_err(|error| self.inner.target.sqlx(error))? > 0)
    }

    fn record(&self, row: &Row, previous: Digest) -> Result<Record, StoreError> {
        let target = &self.inner.target;
        let int = |column| row.int(column).map_err(|error| target.sqlx(error));
        let text = |column| row.text(column).map_err(|error| target.sqlx(error));
        let (seq, booked, hash) = (int(0)?, text(3)?, text(6)?);
        Ok(Record {
            seq: u64::try_from(seq).map_err(|_| target.corrupt(format_args!("ledger number {seq}")))?,
            effective_at: UnixMs(int(1)?),
            recorded_at: UnixMs(int(2)?),
            booked: booked.parse().map_err(|error| target.corrupt(error))?,
            key: text(4)?,
            body: text(5)?,
            previous,
            hash: hash.parse().map_err(|error| target.corrupt(error))?,
        })
    }

    /// Follows the whole chain, makes every balance, every closed period's export and every roll-up again, and checks the
    /// sites' manifests.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer. What is wrong with the ledger is no error, but
    /// [`LedgerCheck::defect`].
    pub async fn verify_ledger(&self) -> Result<LedgerCheck, StoreError> {
        let mut verifier = Verifier::new();
        let mut head = Head::default();
        for _ in 0..MAX_READINGS {
            loop {
                let records = self.ledger_records(head, MAX_PAGE).await?;
                let Some(last) = records.last() else { break };
                let next = last.head();
                if let Err(defect) = records.iter().try_for_each(|record| verifier.record(record)) {
                    let head = Head { seq: verifier.records(), ..head };
                    return Ok(LedgerCheck {
                        head,
                        accounts: 0,
                        periods: 0,
                        rollups: 0,
                        defect: Some(defect),
                    });
                }
                head = next;
            }
            let (newest, entries, balances) = self.balances_at_head().await?;
            if newest != head.seq {
                continue;
            }
            if entries != newest {
                let defect = Some(Defect::Gap { expected: entries, found: newest });
                return Ok(LedgerCheck { head, accounts: 0, periods: 0, rollups: 0, defect });
            }
            let stored = self.rollups().await?;
            if stored.newest != head.seq {
                continue;
            }
            let (closed, manifests) = (self.closed_periods().await?, self.site_manifests(None).await?);
            let checked = verifier.finish(&balances, Some(head), &closed);
            let checked = checked.and_then(|()| verifier.rollups(&stored.days, &stored.months));
            let checked = checked.and_then(|()| check_manifests(&manifests));
            let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
            return Ok(LedgerCheck {
                head,
                accounts: count(balances.len()),
                periods: count(closed.len()),
                rollups: count(stored.days.rows().len() + stored.days.datasets().len()),
                defect: checked.err(),
            });
        }
        let what = format!("the ledger grew faster than it was read, {MAX_READINGS} times");
        Err(self.inner.target.other(what))
    }

    /// The newest number, how many entries there are, and every balance: of one moment, as one statement sees it.
    async fn balances_at_head(&self) -> Result<(u64, u64, BTreeMap<Account, i64>), StoreError> {
        let sql = "SELECT account, micros FROM balances UNION ALL \
            SELECT '', COALESCE(MAX(chain_seq), 0) FROM ledger_entries UNION ALL \
            SELECT '#', COUNT(*) FROM ledger_entries";
        let target = &self.inner.target;
        let (mut newest, mut entries, mut balances) = (0, 0, BTreeMap::new());
        let count = |number: i64| u64::try_from(number).map_err(|_| target.corrupt("a count below 0"));
        for row in self.rows(sql.into_sql_str(), vec![]).await? {
            let read = row.text(0).and_then(|account| Ok((account, row.int(1)?)));
            let (account, micros) = read.map_err(|error| target.sqlx(error))?;
            match account.as_str() {
                "" => newest = count(micros)?,
                "#" => entries = count(micros)?,
                account => {
                    balances.insert(account.parse().map_err(|error| target.corrupt(error))?, micros);
                }
            }
        }
        Ok((newest, entries, balances))
    }

    /// Every closed period, with what was frozen.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or a row cannot be read.
    pub async fn closed_periods(&self) -> Result<BTreeMap<Period, Closed>, StoreError> {
        let target = &self.inner.target;
        let mut periods = BTreeMap::new();
        for row in self.rows("SELECT name, body FROM periods".into_sql_str(), vec![]).await? {
            let read = row.text(0).and_then(|name| Ok((name, row.text(1)?)));
            let (name, body) = read.map_err(|error| target.sqlx(error))?;
            periods.insert(name.parse().map_err(|error| target.corrupt(error))?, load::parse(target, &body)?);
        }
        Ok(periods)
    }

    /// The manifests of a closed period's sites, or of all periods, by period and site.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or a row cannot be read.
    pub async fn site_manifests(&self, period: Option<Period>) -> Result<Vec<SiteManifest>, StoreError> {
        let rows = match period {
            Some(period) => {
                let sql = "SELECT body FROM site_manifests WHERE period = $1";
                self.rows(sql.into_sql_str(), vec![period.to_string().into()]).await?
            }
            None => self.rows("SELECT body FROM site_manifests".into_sql_str(), vec![]).await?,
        };
        let mut manifests: Vec<SiteManifest> = load::bodies(&self.inner.target, &rows)?;
        manifests.sort_by(|one, other| (one.period, &one.site).cmp(&(other.period, &other.site)));
        Ok(manifests)
    }

    /// The export of a period: one line of CSV for each charge that is booked into it. Once the period is closed, it is
    /// byte for byte the same for ever.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer or a row cannot be read.
    pub async fn period_export(&self, period: Period) -> Result<String, StoreError> {
        let never = "writing to a string does not fail";
        let mut exporter =
            Exporter::new(String::new()).map_err(|_| self.inner.target.other(never.to_owned()))?;
        let mut after = 0;
        loop {
            let records = self.booked_records(period, after, MAX_PAGE).await?;
            let Some(last) = records.last() else { break };
            after = last.seq;
            for record in &records {
                exporter.record(record).map_err(|_| self.inner.target.other(never.to_owned()))?;
            }
        }
        Ok(exporter.finish())
    }
}

/// A record's number as both databases keep it.
fn number(seq: u64) -> Value {
    Value::Int(i64::try_from(seq).unwrap_or(i64::MAX))
}

fn limited(limit: usize) -> Value {
    Value::Int(i64::try_from(limit.min(MAX_PAGE)).unwrap_or(i64::MAX))
}
