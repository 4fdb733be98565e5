//! The end of a month: its pools, its manifests, its export.

use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{Closed, Digest, SiteManifest};
use spillway_types::UnixMs;

use super::ApplyError;
use crate::{Event, Key, State};

impl State {
    pub(super) fn apply_to_period(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::PoolClosed(closed) = event {
            self.close_pool(closed, at)
        } else if let Event::PeriodClosed { period, manifests } = event {
            self.close_period(*period, manifests, at);
            Ok(())
        } else if let Event::PeriodFrozen { period, digest } = event {
            self.freeze_period(*period, *digest)
        } else {
            Ok(())
        }
    }

    fn close_period(&mut self, period: Period, manifests: &[SiteManifest], at: UnixMs) {
        self.touch(Key::Period(period));
        self.changes.closed.push((self.journal, period));
        self.periods.restore(period, Closed { at, digest: None });
        for manifest in manifests {
            self.touch(Key::SiteUsage(manifest.site.clone()));
            self.site_usage.entry(manifest.site.clone()).or_default().closed = manifest.count;
            self.changes.manifests.push(manifest.clone());
        }
        self.forget_month(period);
    }

    fn freeze_period(&mut self, period: Period, digest: Digest) -> Result<(), ApplyError> {
        self.touch(Key::Period(period));
        self.periods.freeze(period, digest).map_err(|error| ApplyError::Ledger(error.to_string()))
    }
}
