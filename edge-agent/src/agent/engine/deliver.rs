//! From what happened to the spool, and from the spool to the broker.

use spillway_tunnel::protocol::{AgentEvent, ToBroker, UsageStatement};

use super::super::{chain, output, report};
use super::{Engine, Obedience, Session};
use crate::agent::report::Known;
use crate::part::PartKey;
use crate::reconcile::Stage;
use crate::spool::{Reported, SpoolError};

/// Bytes of events in one message: far below the largest frame, and a few outputs at once.
const BATCH_BYTES: usize = 256 * 1024;
/// Pieces of output that one turn moves to the spool, so that a large output does not hold up renewals.
const PIECES_A_TURN: usize = 32;

/// Whether a part's output is in the spool.
#[derive(PartialEq, Eq)]
enum Progress {
    Whole,
    More,
}

impl Engine {
    /// Writes to the spool what is not there yet. Where that fails, jobs run on, leases are renewed, and the
    /// next turn tries again: everything is made from the parts' folders.
    pub(super) fn report(&mut self, now_ms: u64) {
        if let Err(error) = self.report_moves() {
            return self.note_spool_trouble(&error);
        }
        let unfinished: Vec<PartKey> =
            self.known.keys().copied().filter(|part| self.said(part).ended.is_none()).collect();
        let mut pieces = PIECES_A_TURN;
        for part in unfinished {
            if let Err(error) = self.report_part(part, now_ms, &mut pieces) {
                self.note_spool_trouble(&error);
                return;
            }
        }
        if std::mem::take(&mut self.spool_trouble) {
            tracing::info!("the spool takes events again");
        }
    }

    fn said(&self, part: &PartKey) -> Reported {
        self.spool.reported().get(part).cloned().unwrap_or_default()
    }

    fn report_part(&mut self, part: PartKey, now_ms: u64, pieces: &mut usize) -> Result<(), SpoolError> {
        let Some(known) = self.known_of(&part).cloned() else { return Ok(()) };
        for event in report::before_output(part, &known, &self.said(&part), now_ms, self.usage_every) {
            self.spool.append(&event)?;
        }
        let Known::Ended(record) = known else { return Ok(()) };
        if record.started && self.report_output(part, pieces)? == Progress::More {
            return Ok(());
        }
        self.spool.append(&report::end(part, &record, &self.said(&part)))?;
        Ok(())
    }

    /// Moves a part's output to the spool, as far as this turn may.
    fn report_output(&mut self, part: PartKey, pieces: &mut usize) -> Result<Progress, SpoolError> {
        let folder = self.executor.folder(part);
        loop {
            let piece = output::next_piece(&folder, part, self.said(&part).output_to).unwrap_or_else(|error| {
                tracing::error!(%part, %error, "the output of a part cannot be read; the rest of it is lost");
                None
            });
            let Some(event) = piece else { return Ok(Progress::Whole) };
            let Some(left) = pieces.checked_sub(1) else {
                self.output_waits = true;
                return Ok(Progress::More);
            };
            *pieces = left;
            self.spool.append(&event)?;
        }
    }

    pub(super) fn note_spool_trouble(&mut self, error: &SpoolError) {
        if !self.spool_trouble {
            self.spool_trouble = true;
            tracing::error!(
                error = %chain(error),
                "events cannot be spooled: jobs run on and are renewed, what happens to them is reported once \
                 the disk has room and the broker acknowledges"
            );
        }
    }

    pub(super) fn begin_sync(&mut self) {
        if self.under_way.sync {
            return;
        }
        match self.spool.sync_job() {
            Ok(Some(job)) => {
                self.under_way.sync = true;
                let done = self.wires.sync_done.clone();
                // The channel has room for the one sync under way.
                drop(tokio::task::spawn_blocking(move || done.blocking_send(job.run()).ok()));
            }
            Ok(None) => {}
            Err(error) => self.note_spool_trouble(&error),
        }
    }

    pub(super) fn has_unsent(&self, session: &Session) -> bool {
        session.obedience == Obedience::Full && session.next_event <= self.spool.synced()
    }

    /// Sends durable events while the link takes messages.
    pub(super) fn send_events(&mut self) {
        while let Some(session) = self.session.as_ref().filter(|session| self.has_unsent(session)) {
            let Ok(place) = session.out.clone().try_reserve_owned() else { return };
            let (first, events) = match self.spool.read(session.next_event, BATCH_BYTES) {
                Ok((_, events)) if events.is_empty() => return,
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "spooled events cannot be read back");
                    return;
                }
            };
            if first > session.next_event {
                tracing::error!(
                    from = session.next_event,
                    to = first - 1,
                    "the broker asks for events that it had acknowledged: it was started from an old copy"
                );
            }
            self.note_sent(first, &events);
            place.send(ToBroker::Events { first, events });
        }
    }

    /// What is said of usage: all that was spooled, and how old the use is that was not. None while a part may have
    /// begun that nothing is known of yet.
    pub(super) fn usage_statement(&self, now_ms: u64) -> Option<UsageStatement> {
        if self.parts.values().any(|part| part.stage == Stage::Busy) {
            return None;
        }
        let mut unsaid =
            self.known.iter().map(|(part, known)| report::unsaid_ms(known, &self.said(part), now_ms));
        let age_ms = unsaid.try_fold(0, |oldest, age| Some(age?.max(oldest)))?;
        Some(UsageStatement { mark: *self.spool.usage(), age_ms })
    }

    fn note_sent(&mut self, first: u64, events: &[AgentEvent]) {
        if let Some(session) = &mut self.session {
            session.next_event = first.saturating_add(events.len() as u64);
        }
    }
}
