//! From what changed to rows. Each body is serialised once; nothing here touches a database.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spillway_core::entity::{Attempt, Instance, Job, Node};
use spillway_core::pools::{PoolKey, UseKey};
use spillway_core::{Changes, Event, Key, State};
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{Head, Link, SiteManifest, Statement};
use spillway_ledger::rollup::{Charge, Rollup};
use spillway_ledger::{Entry, Posting};
use spillway_types::UnixMs;

use crate::charge::{ChargeRow, charge_row, share_row};
use crate::rollup;
use crate::sql::Value;
use crate::tables::{self, Table};

/// What one transaction writes.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The state with all of it applied.
    pub state: &'a State,
    /// What changed since the last batch.
    pub changes: Changes,
    /// The journal entries that changed it, in order; their numbers continue those that are written.
    pub journal: Vec<JournalRow>,
}

/// One journal entry: what one command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Its number; they count up from 1 without a gap.
    pub seq: u64,
    /// When it happened.
    pub at: UnixMs,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// A batch as rows, ready to be written.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) inserts: Vec<Rows>,
    pub(crate) deletes: Vec<Rows>,
    /// Entries of the ledger, in order. The writer links them: it knows where the chain ends.
    pub(crate) entries: Vec<PendingEntry>,
    /// The first and the last journal number.
    pub(crate) journal: Option<(u64, u64)>,
}

/// An entry of the ledger before it is linked.
#[derive(Debug, Clone)]
pub(crate) struct PendingEntry {
    journal_seq: i64,
    attempt: String,
    effective_at: UnixMs,
    recorded_at: UnixMs,
    booked: Period,
    key: String,
    body: String,
    /// Its rows among the charges, without its number in the chain: one of a charge, of a statement one for each group.
    charges: Vec<ChargeRow>,
    /// The instant of a slice; 0 of other entries.
    slice_ms: i64,
}

/// The rows of the entries and of their charges after `head`, and where the chain then ends.
pub(crate) fn linked(entries: Vec<PendingEntry>, mut head: Head) -> ([Rows; 2], Head) {
    let mut values = Vec::with_capacity(entries.len() * tables::LEDGER_ENTRIES.width());
    let mut charges = vec![];
    for entry in entries {
        let PendingEntry {
            journal_seq,
            attempt,
            effective_at,
            recorded_at,
            booked,
            key,
            body,
            charges: of_entry,
            slice_ms,
        } = entry;
        let seq = head.seq.saturating_add(1);
        let link = Link { seq, effective_at, recorded_at, booked, key: &key, body: &body };
        head = Head { seq, hash: link.hash(head.hash) };
        for charge in of_entry {
            charges.extend(charge.numbered(i64::try_from(seq).unwrap_or(i64::MAX)));
        }
        let row: [Value; 10] = [
            key.into(),
            journal_seq.into(),
            attempt.into(),
            body.into(),
            i64::try_from(seq).unwrap_or(i64::MAX).into(),
            effective_at.0.into(),
            recorded_at.0.into(),
            booked.to_string().into(),
            head.hash.to_string().into(),
            slice_ms.into(),
        ];
        values.extend(row);
    }
    let rows =
        [Rows { table: &tables::LEDGER_ENTRIES, values }, Rows { table: &tables::CHARGES, values: charges }];
    (rows, head)
}

/// Rows of one table, or keys of rows to delete, one value after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) table: &'static Table,
    pub(crate) values: Vec<Value>,
}

/// What is wrong with a batch, in words.
type Wrong = String;

impl Prepared {
    pub(crate) fn new(batch: &Batch<'_>) -> Result<Self, Wrong> {
        let mut rows = Builder::default();
        let journal = rows.journal(&batch.journal)?;
        rows.ended(&batch.changes)?;
        batch.changes.manifests.iter().try_for_each(|manifest| rows.manifest(manifest))?;
        let gone = ended_keys(&batch.changes);
        for key in batch.changes.touched.iter().filter(|key| !gone.contains(key)) {
            rows.touched(batch.state, key)?;
        }
        rows.ledger(batch)?;
        let rollups = rollup::rows(&rows.rollup)?;
        let listed = |rows: BTreeMap<&str, Rows>| rows.into_values().collect();
        let entries = std::mem::take(&mut rows.entries);
        let mut inserts: Vec<Rows> = listed(rows.inserts);
        inserts.extend(rollups);
        Ok(Self { inserts, deletes: listed(rows.deletes), entries, journal })
    }
}

fn ended_keys(changes: &Changes) -> BTreeSet<Key> {
    let jobs = changes.ended_jobs.iter().map(|job| Key::Job(job.id));
    let attempts = changes.ended_attempts.iter().map(|attempt| Key::Attempt(attempt.id));
    let instances = changes.ended_instances.iter().map(|instance| Key::Instance(instance.id));
    let nodes = changes.ended_nodes.iter().map(|node| Key::Node(node.id));
    jobs.chain(attempts).chain(instances).chain(nodes).collect()
}

fn text(entity: &impl Serialize) -> Result<String, Wrong> {
    serde_json::to_string(entity).map_err(|error| format!("a row cannot be written as JSON: {error}"))
}

fn json(entity: &impl Serialize) -> Result<Value, Wrong> {
    text(entity).map(Value::Text)
}

/// A number as both databases keep it.
fn narrow(number: u64) -> Result<i64, Wrong> {
    i64::try_from(number).map_err(|_| format!("{number} is more than a BIGINT can hold"))
}

/// Text that somebody chose freely, made fit for PostgreSQL, whose TEXT has no NUL. No two texts become one.
pub(crate) fn portable(text: &str) -> String {
    if text.contains(['\0', '\\']) {
        text.replace('\\', "\\\\").replace('\0', "\\0")
    } else {
        text.to_owned()
    }
}

const ALIVE: Value = Value::Int(1);
const ENDED: Value = Value::Int(0);

#[derive(Default)]
struct Builder {
    inserts: BTreeMap<&'static str, Rows>,
    deletes: BTreeMap<&'static str, Rows>,
    entries: Vec<PendingEntry>,
    /// What the entries charge.
    rollup: Rollup,
}

impl Builder {
    fn insert<const N: usize>(&mut self, table: &'static Table, row: [Value; N]) {
        debug_assert_eq!(N, table.width(), "{}", table.id);
        let rows = self.inserts.entry(table.id).or_insert_with(|| Rows { table, values: vec![] });
        rows.values.extend(row);
    }

    fn delete(&mut self, table: &'static Table, key: String) {
        let rows = self.deletes.entry(table.id).or_insert_with(|| Rows { table, values: vec![] });
        rows.values.push(Value::Text(key));
    }

    /// Writes the row of something that is there, deletes that of something that is not.
    fn keyed(
        &mut self,
        table: &'static Table,
        key: String,
        entity: Option<&impl Serialize>,
    ) -> Result<(), Wrong> {
        match entity {
            Some(entity) => self.insert(table, [key.into(), json(entity)?]),
            None => self.delete(table, key),
        }
        Ok(())
    }

    fn journal(&mut self, journal: &[JournalRow]) -> Result<Option<(u64, u64)>, Wrong> {
        for (row, next) in journal.iter().zip(journal.iter().skip(1)) {
            if row.seq.checked_add(1) != Some(next.seq) {
                return Err(format!("journal entry {} is followed by {}", row.seq, next.seq));
            }
        }
        for row in journal {
            self.insert(&tables::JOURNAL, [narrow(row.seq)?.into(), row.at.0.into(), json(&row.events)?]);
        }
        Ok(journal.first().zip(journal.last()).map(|(first, last)| (first.seq, last.seq)))
    }

    fn ended(&mut self, changes: &Changes) -> Result<(), Wrong> {
        changes.ended_jobs.iter().try_for_each(|job| self.job(&tables::ENDED_JOBS, job, ENDED))?;
        changes.ended_attempts.iter().try_for_each(|it| self.attempt(&tables::ENDED_ATTEMPTS, it, ENDED))?;
        changes
            .ended_instances
            .iter()
            .try_for_each(|it| self.instance(&tables::ENDED_INSTANCES, it, ENDED))?;
        changes.ended_nodes.iter().try_for_each(|it| self.node(&tables::ENDED_NODES, it, ENDED))
    }

    fn touched(&mut self, state: &State, key: &Key) -> Result<(), Wrong> {
        match key {
            Key::Meta => {
                self.insert(&tables::META, ["deployment".into(), state.deployment.as_str().into()]);
                self.insert(&tables::META, ["incarnation".into(), state.incarnation.to_string().into()]);
                Ok(())
            }
            Key::Site(name) => self.keyed(&tables::SITES, name.to_string(), state.sites.get(name)),
            Key::Pool(name) => self.keyed(&tables::POOLS, name.to_string(), state.pools.get(name)),
            Key::Group(name) => {
                let Some(group) = state.groups.get(name) else {
                    self.delete(&tables::TENANTS, name.to_string());
                    return Ok(());
                };
                let overshoot = Value::MaybeInt(state.overshoot_micros.get(name).copied());
                self.insert(&tables::TENANTS, [name.as_str().into(), overshoot, json(group)?]);
                Ok(())
            }
            Key::User(name) => self.keyed(&tables::USERS, name.to_string(), state.users.get(name)),
            Key::Token(hash) => self.keyed(&tables::TOKENS, hash.clone(), state.tokens.get(hash)),
            Key::JoinToken(hash) => {
                self.keyed(&tables::JOIN_TOKENS, hash.clone(), state.join_tokens.get(hash))
            }
            Key::Submission(key) => {
                self.keyed(&tables::SUBMISSIONS, portable(key), state.submissions.get(key))
            }
            Key::Period(period) => {
                self.keyed(&tables::PERIODS, period.to_string(), state.periods.closed().get(period))
            }
            Key::SiteUsage(site) => {
                self.keyed(&tables::SITE_USAGE, site.to_string(), state.site_usage.get(site))
            }
            Key::Rates(pool) => self.keyed(&tables::RATE_CARDS, pool.to_string(), state.rates.of(pool)),
            Key::Currency(currency) => {
                self.keyed(&tables::CURRENCIES, currency.to_string(), state.currencies.of(*currency))
            }
            Key::History(kind) => self.keyed(&tables::RUN_HISTORY, portable(kind), state.history.runs(kind)),
            Key::Limit(key) => {
                let row = state.limits.row(key);
                self.keyed(&tables::LIMITS, portable(&key.to_string()), row.as_ref())
            }
            Key::PoolBook(key) => self.pool_book(state, key),
            // What left memory earlier can be touched again, by a late report; its row stays as it ended.
            Key::Node(id) => {
                state.nodes.get(id).map_or(Ok(()), |node| self.node(&tables::NODES, node, ALIVE))
            }
            Key::Instance(id) => state
                .instances
                .get(id)
                .map_or(Ok(()), |instance| self.instance(&tables::INSTANCES, instance, ALIVE)),
            Key::Job(id) => state.jobs.get(id).map_or(Ok(()), |job| self.job(&tables::JOBS, job, ALIVE)),
            Key::Attempt(id) => state
                .attempts
                .get(id)
                .map_or(Ok(()), |attempt| self.attempt(&tables::ATTEMPTS, attempt, ALIVE)),
        }
    }

    fn manifest(&mut self, manifest: &SiteManifest) -> Result<(), Wrong> {
        let (period, name) = (manifest.period.to_string(), format!("{}/{}", manifest.period, manifest.site));
        self.insert(&tables::SITE_MANIFESTS, [name.into(), period.into(), json(manifest)?]);
        Ok(())
    }

    fn node(&mut self, table: &'static Table, node: &Node, alive: Value) -> Result<(), Wrong> {
        self.insert(table, [node.id.to_string().into(), alive, json(node)?]);
        Ok(())
    }

    fn instance(&mut self, table: &'static Table, instance: &Instance, alive: Value) -> Result<(), Wrong> {
        self.insert(table, [instance.id.to_string().into(), alive, json(instance)?]);
        Ok(())
    }

    fn attempt(&mut self, table: &'static Table, attempt: &Attempt, alive: Value) -> Result<(), Wrong> {
        self.insert(
            table,
            [attempt.id.to_string().into(), alive, attempt.job.to_string().into(), json(attempt)?],
        );
        Ok(())
    }

    fn job(&mut self, table: &'static Table, job: &Job, alive: Value) -> Result<(), Wrong> {
        let row = [
            job.id.to_string().into(),
            alive,
            job.rolled_up().into(),
            job.spec.group.as_str().into(),
            job.user.as_str().into(),
            portable(&job.spec.name).into(),
            job.submitted.0.into(),
            Value::MaybeInt(job.ended.map(|ended| ended.0)),
            json(job)?,
        ];
        self.insert(table, row);
        Ok(())
    }

    fn ledger(&mut self, batch: &Batch<'_>) -> Result<(), Wrong> {
        let times: BTreeMap<u64, UnixMs> = batch.journal.iter().map(|row| (row.seq, row.at)).collect();
        let mut accounts = BTreeSet::new();
        let time = |seq: &u64, key: &str| {
            times.get(seq).copied().ok_or_else(|| {
                format!("ledger entry {key} belongs to journal entry {seq}, which is not in the batch")
            })
        };
        let (changes, periods) = (&batch.changes, &batch.state.periods);
        for (seq, entry) in &changes.entries {
            let at = time(seq, entry.key())?;
            let effective_at = entry.effective_at().unwrap_or(at);
            self.entry((*seq, at), entry, effective_at, changes.booked(*seq, effective_at, periods))?;
            accounts.extend(entry.postings().iter().map(|posting| &posting.account));
        }
        for (seq, statement) in &changes.statements {
            let at = time(seq, statement.key())?;
            self.statement((*seq, at), statement, statement.effective_at(periods.zone()))?;
            accounts.extend(statement.postings().iter().map(|posting| &posting.account));
        }
        for account in accounts {
            let balance = batch.state.book.balance(account);
            self.insert(&tables::BALANCES, [account.to_string().into(), balance.into()]);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (seq, at): (u64, UnixMs),
        entry: &Entry,
        effective_at: UnixMs,
        booked: Period,
    ) -> Result<(), Wrong> {
        let journal_seq = narrow(seq)?;
        let mut charges = vec![];
        if let Some(charge) = Charge::of(entry, effective_at, booked) {
            charges.push(charge_row((journal_seq, at), entry, effective_at, &charge)?);
            self.rollup.add(charge);
        }
        self.entries.push(PendingEntry {
            journal_seq,
            attempt: entry.subject().attempt.to_string(),
            effective_at,
            recorded_at: at,
            booked,
            key: entry.key().to_owned(),
            slice_ms: entry.effective_at().map_or(0, |at| at.0),
            body: text(entry)?,
            charges,
        });
        self.postings(journal_seq, entry.postings());
        Ok(())
    }

    /// A statement is posted while its month is open, and booked into that.
    fn statement(
        &mut self,
        (seq, at): (u64, UnixMs),
        statement: &Statement,
        effective_at: UnixMs,
    ) -> Result<(), Wrong> {
        let (journal_seq, booked) = (narrow(seq)?, statement.period());
        let mut charges = vec![];
        for charge in Charge::of_statement(statement, effective_at, booked) {
            charges.push(share_row((journal_seq, at), statement, effective_at, &charge));
            self.rollup.add(charge);
        }
        self.entries.push(PendingEntry {
            journal_seq,
            attempt: String::new(),
            effective_at,
            recorded_at: at,
            booked,
            key: statement.key().to_owned(),
            slice_ms: 0,
            body: text(statement)?,
            charges,
        });
        self.postings(journal_seq, statement.postings());
        Ok(())
    }

    fn postings(&mut self, journal_seq: i64, postings: &[Posting]) {
        for posting in postings {
            let row = [journal_seq.into(), posting.account.to_string().into(), posting.micros.into()];
            self.insert(&tables::POSTINGS, row);
        }
    }

    fn pool_book(&mut self, state: &State, key: &PoolKey) -> Result<(), Wrong> {
        let books = &state.pool_books;
        match key {
            PoolKey::Capacity(pool) => {
                self.keyed(&tables::POOL_CAPACITY, pool.to_string(), books.capacity.get(pool))
            }
            PoolKey::Closed(period, pool) => {
                let closed = books.closed.get(period).and_then(|pools| pools.get(pool));
                self.keyed(&tables::POOL_MONTHS, format!("{pool}/{period}"), closed)
            }
            // Of a month that was closed since, nothing is known any more, and nothing is read.
            PoolKey::Use(key) => {
                let Some(used) = books.uses.get(key) else { return Ok(()) };
                let UseKey { pool, booked, class, group } = key.as_ref();
                let row = [
                    pool.as_str().into(),
                    booked.to_string().into(),
                    class.as_str().into(),
                    group.as_str().into(),
                    used.gpu_ms.into(),
                    used.micros.into(),
                ];
                self.insert(&tables::POOL_USE, row);
                Ok(())
            }
        }
    }
}
