//! The row of what an entry charges, in narrow columns for reports and exports.

use spillway_ledger::journal::Statement;
use spillway_ledger::rollup::{Charge, Dimensions};
use spillway_ledger::{Account, Entry, Usage};
use spillway_types::UnixMs;

use crate::batch::portable;
use crate::sql::Value;

/// Columns of `charges` before `chain_seq`.
const HEAD: usize = 14;
/// Columns of `charges` after it.
const TAIL: usize = 21;

/// A row of `charges` without its number in the chain, which the writer knows.
#[derive(Debug, Clone)]
pub(crate) struct ChargeRow {
    head: [Value; HEAD],
    tail: [Value; TAIL],
}

impl ChargeRow {
    /// The whole row, as the entry of that number has it.
    pub(crate) fn numbered(self, chain_seq: i64) -> impl Iterator<Item = Value> {
        self.head.into_iter().chain([chain_seq.into()]).chain(self.tail)
    }
}

/// The row of an entry that is posted by the journal's entry of that number and time.
pub(crate) fn charge_row(
    (journal_seq, at): (i64, UnixMs),
    entry: &Entry,
    effective_at: UnixMs,
    charge: &Charge,
) -> Result<ChargeRow, String> {
    let (subject, payee, usage) = (entry.subject(), entry.payee(), entry.usage());
    let booked = charge.dimensions.booked.to_string();
    let head = [
        journal_seq.into(),
        at.0.into(),
        booked.clone().into(),
        entry.kind().as_str().into(),
        subject.group.as_str().into(),
        subject.user.as_str().into(),
        subject.site.as_str().into(),
        payee.map(ToString::to_string).unwrap_or_default().into(),
        subject.job.to_string().into(),
        subject.attempt.to_string().into(),
        Value::MaybeText(subject.instance.map(|instance| instance.to_string())),
        entry.signed_gpu_ms().into(),
        entry.spend_micros().into(),
        entry.key().into(),
    ];
    let wide = || format!("an amount of {} is more than a BIGINT can hold", entry.key());
    let text = |of: fn(&Usage) -> Option<String>| Value::MaybeText(usage.and_then(of));
    let number = |of: fn(&Usage) -> i64| Value::MaybeInt(usage.map(of));
    let blocks = usage.map(|usage| i64::try_from(usage.blocks)).transpose();
    let sum = |sum: i128| i64::try_from(sum).map(Value::Int).map_err(|_| wide());
    let tail = [
        booked.into(),
        text(|usage| usage.pool.as_ref().map(ToString::to_string)),
        text(|usage| usage.class.as_ref().map(ToString::to_string)),
        // A machine names itself freely.
        text(|usage| usage.resource.as_deref().map(portable)),
        text(|usage| usage.cloud.as_ref().map(ToString::to_string)),
        text(|usage| usage.region.as_ref().map(ToString::to_string)),
        text(|usage| usage.market.map(|market| market.to_string())),
        number(|usage| usage.from.0),
        number(|usage| usage.to.0),
        Value::MaybeInt(blocks.map_err(|_| wide())?),
        number(|usage| usage.rate.0),
        number(|usage| usage.list_rate.0),
        Value::MaybeText(usage.map(|_| charge.datasets.join(","))),
        effective_at.0.into(),
        charge.dimensions.provider.to_string().into(),
        sum(charge.measures.listed_micros)?,
        sum(charge.measures.list_micros)?,
        sum(charge.measures.slices)?,
        sum(charge.measures.matched_micros)?,
        sum(charge.measures.on_prem_micros)?,
        sum(charge.measures.normalised_ms)?,
    ];
    Ok(ChargeRow { head, tail })
}

/// The row of a group's share in a statement: it is about no job, and nobody submitted it.
pub(crate) fn share_row(
    (journal_seq, at): (i64, UnixMs),
    statement: &Statement,
    effective_at: UnixMs,
    charge: &Charge,
) -> ChargeRow {
    let Dimensions { booked, group, site, pool, provider, .. } = &charge.dimensions;
    let booked = booked.to_string();
    let micros = i64::try_from(charge.measures.spend_micros).unwrap_or(i64::MAX);
    let payee = Account::Revenue(site.clone()).to_string();
    let head = [
        journal_seq.into(),
        at.0.into(),
        booked.clone().into(),
        statement.kind().as_str().into(),
        group.as_str().into(),
        "".into(),
        site.as_str().into(),
        payee.into(),
        "".into(),
        "".into(),
        Value::MaybeText(None),
        0.into(),
        micros.into(),
        statement.key().into(),
    ];
    let (no_text, no_number) = (|| Value::MaybeText(None), || Value::MaybeInt(None));
    let tail = [
        booked.into(),
        pool.as_str().into(),
        no_text(),
        no_text(),
        no_text(),
        no_text(),
        no_text(),
        no_number(),
        no_number(),
        no_number(),
        no_number(),
        no_number(),
        no_text(),
        effective_at.0.into(),
        provider.to_string().into(),
        0.into(),
        0.into(),
        0.into(),
        0.into(),
        0.into(),
        0.into(),
    ];
    ChargeRow { head, tail }
}
