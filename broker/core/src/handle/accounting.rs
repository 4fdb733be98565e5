//! Periods and rate cards.

use spillway_ledger::Entry;
use spillway_ledger::calendar::{Day, Period};
use spillway_ledger::journal::{Digest, replacement, reversal};
use spillway_ledger::rates::{Card, ExchangeRate, RateError};
use spillway_types::{Currency, DurationMs, PoolName, UnixMs, UserName};

use crate::entity::Attempt;
use crate::event::Corrected;
use crate::federation::Turn;
use crate::pools::PoolClosed;
use crate::{Event, Refusal, Reply, usage};

/// Closes what is known whole: no attempt lacks a slice of its use, and every node that had work then has said that all
/// it used has come. What was here of each site is written down for ever, and every pool of our own is accounted for;
/// more use of one than it had refuses the close.
pub(super) fn close_period(turn: &mut Turn<'_>, period: Period) -> Result<Reply, Refusal> {
    turn.state.periods.check(period, turn.now).map_err(Box::new)?;
    let ends = period.end(turn.state.periods.zone());
    let mut open = turn.state.attempts.values().filter(|attempt| !is_charged_until(attempt, ends));
    if let Some(first) = open.next() {
        return Err(Refusal::Unsettled { period, count: 1 + open.count(), first: first.id });
    }
    usage::check(turn.state, period)?;
    let pools = turn.state.own_pools().map(|pool| turn.state.pool_month(pool, (period, ends)));
    let pools: Vec<Option<PoolClosed>> = pools.collect::<Result<_, _>>().map_err(Box::new)?;
    let manifests = usage::manifests(turn.state, period);
    for closed in pools.into_iter().flatten() {
        turn.emit(Event::PoolClosed(Box::new(closed)));
    }
    turn.emit(Event::PeriodClosed { period, manifests });
    Ok(Reply::Done)
}

/// Whether all that the attempt used until then is charged.
fn is_charged_until(attempt: &Attempt, ends: UnixMs) -> bool {
    let charged = |rank: usize| attempt.slices.charged_ms(u32::try_from(rank).unwrap_or(u32::MAX));
    let is_charged = |rank: usize| attempt.began(rank).plus(DurationMs(charged(rank))) >= ends;
    attempt.leased.is_none_or(|leased| leased >= ends) || (0..attempt.parts.len()).all(is_charged)
}

pub(super) fn freeze_period(turn: &mut Turn<'_>, period: Period, digest: Digest) -> Result<Reply, Refusal> {
    let known = turn.state.periods.closed().get(&period).and_then(|closed| closed.digest);
    turn.state.periods.clone().freeze(period, digest).map_err(Box::new)?;
    if known.is_none() {
        turn.emit(Event::PeriodFrozen { period, digest });
    }
    Ok(Reply::Done)
}

/// A correction of an entry happens once: what replaced it can be corrected in its turn. That the ledger knows the
/// entry, and no reversal of it from before, is for the caller to see.
pub(super) fn correct(
    turn: &mut Turn<'_>,
    entry: &Entry,
    becomes: Option<(u64, i64)>,
    by: UserName,
    because: String,
) -> Result<Reply, Refusal> {
    if turn.state.corrected.contains(entry.key()) {
        return Err(Refusal::CorrectedAlready { key: entry.key().to_owned() });
    }
    if becomes.is_some_and(|(_, micros)| micros < 0) {
        let value = becomes.map_or(0, |(_, micros)| micros).to_string();
        let problem = "is negative: give what it should have cost, 0 or more".to_owned();
        return Err(Refusal::Invalid { field: "amount", value, problem });
    }
    let back = reversal(entry).map_err(Box::new)?;
    let replaced = becomes.map(|(gpu_ms, micros)| replacement(entry, gpu_ms, micros)).transpose();
    let replacement = replaced.map_err(Box::new)?;
    turn.emit(Event::EntryCorrected(Box::new(Corrected { reversal: back, replacement, by, because })));
    Ok(Reply::Done)
}

pub(super) fn set_rates(
    turn: &mut Turn<'_>,
    pool: PoolName,
    effective: UnixMs,
    card: Box<Card>,
) -> Result<Reply, Refusal> {
    if !turn.state.pools.contains_key(&pool) {
        return Err(Refusal::NotFound { kind: "pool", id: pool.to_string() });
    }
    if let Some(lending) = card.lending()
        && !turn.state.users.contains_key(lending.owner())
    {
        return Err(Refusal::NotFound { kind: "user", id: lending.owner().to_string() });
    }
    let worth = turn.state.currencies.rate(card.currency(), effective);
    worth.map_err(|error| Box::new(RateError::Currency(error)))?;
    if let Some(unknown) = card.unused().groups().find(|group| !turn.state.groups.contains_key(*group)) {
        return Err(Refusal::NotFound { kind: "group", id: unknown.to_string() });
    }
    let periods = &turn.state.periods;
    let mut trial = turn.state.rates.clone();
    let set =
        trial.set(pool.clone(), effective, card.as_ref().clone(), periods.newest_closed(), periods.zone());
    set.map_err(Box::new)?;
    if turn.state.rates != trial {
        turn.emit(Event::RatesSet { pool, effective, card });
    }
    Ok(Reply::Done)
}

/// The first day of UTC of which nothing is in a closed period, with the newest one.
fn first_open_day(turn: &Turn<'_>) -> Option<(Period, Day)> {
    let periods = &turn.state.periods;
    let closed = periods.newest_closed()?;
    let ends = closed.end(periods.zone());
    let day = Day::of(ends);
    Some((closed, if day.start() == ends { day } else { day.plus(1) }))
}

pub(super) fn set_exchange(
    turn: &mut Turn<'_>,
    currency: Currency,
    from: Day,
    rate: ExchangeRate,
) -> Result<Reply, Refusal> {
    let mut trial = turn.state.currencies.clone();
    let set = trial.set_checked(currency, (from, rate), Day::of(turn.now), first_open_day(turn));
    set.map_err(Box::new)?;
    if trial != turn.state.currencies {
        turn.emit(Event::ExchangeSet { currency, from, rate });
    }
    Ok(Reply::Done)
}
