//! What a job's inputs take at a place: the bytes that are not there, what their providers take for them, and how
//! long they are on the way.

use spillway_types::{DataMap, DatasetName, SiteName};

/// What has to be moved before a job can run at a site; nothing where all its inputs are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moving {
    pub(crate) bytes: u64,
    /// For all of it, in micros: what one job pays where no other waits for the same data.
    pub(crate) egress_micros: i64,
    /// Of that, for what agents bring: each part of a job pays it, and it is held with the job.
    pub(crate) held_micros: i64,
    /// One dataset after the other, each over its link alone.
    pub(crate) ms: i64,
}

impl Moving {
    /// Copies are read where they cost least.
    pub(crate) fn to(site: &SiteName, inputs: &[DatasetName], data: &DataMap) -> Self {
        let transfers = inputs.iter().filter_map(|input| {
            let transfer = data.transfer(input, site)?;
            let held = if data.reading(input, site).is_some() { transfer.egress_micros } else { 0 };
            Some((transfer, held))
        });
        transfers.fold(Self::default(), |sum, (transfer, held)| Self {
            bytes: sum.bytes.saturating_add(transfer.bytes),
            egress_micros: sum.egress_micros.saturating_add(transfer.egress_micros),
            held_micros: sum.held_micros.saturating_add(held),
            ms: sum.ms.saturating_add(i64::try_from(transfer.ms).unwrap_or(i64::MAX / 8)).min(i64::MAX / 8),
        })
    }

    /// What leaves other sites for a job of so many parts, in micros.
    pub(crate) fn egress_of(&self, parts: u32) -> i64 {
        let more = self.held_micros.saturating_mul(i64::from(parts.saturating_sub(1)));
        self.egress_micros.saturating_add(more)
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::Reason;

    use crate::plan;
    use crate::testing::{job, node, offer, snapshot, usd};

    /// 100 GB at 0.09 are 9.00; eight GPUs for the two hours that the job may take are 16.00.
    #[test]
    fn a_budget_pays_for_bytes_that_are_brought_too() {
        let data = |left| {
            let groups = snapshot().group("lab", 0, 1, Some(left));
            groups.data("web", 100, &["east"]).link("east", "home", 100, 9).link("east", "cloud", 100, 9)
        };
        let here = |left| {
            data(left).node(node(1, "H100:8")).node(node(2, "H100:8")).job(job(1, "H100:8").reads("web"))
        };
        let brought = |left| here(left).brought("web", "east");
        for (case, snapshot, expected) in [
            ("read by the job itself", here(usd(16)), Ok(usd(16))),
            ("a micro short", brought(usd(25) - 1), Err(Some(Reason::Budget))),
            ("enough", brought(usd(25)), Ok(usd(16))),
        ] {
            let plan = plan(&snapshot);
            let explanation = &plan.explanations[&snapshot.queue[0].job];
            let held = plan.decisions.first().map(|decision| decision.hold_micros).ok_or(explanation.reason);
            assert_eq!(held, expected, "{case}: the decision is for the hours");
        }
        let gang = |left| {
            let mut gang = brought(left);
            gang.queue[0].nodes = 2;
            gang
        };
        assert_eq!(plan(&gang(usd(50) - 1)).decisions, [], "each part brings its own");
        assert_eq!(plan(&gang(usd(50))).decisions[0].hold_micros, usd(32));
        let offer = offer("p5", "H100:8", 98);
        let cloud =
            |left| data(left).brought("web", "east").offer(offer.clone()).job(job(1, "H100:8").reads("web"));
        let launched = plan(&cloud(usd(1000))).decisions[0].hold_micros;
        assert_eq!(plan(&cloud(launched + usd(9) - 1)).decisions, []);
        assert_eq!(plan(&cloud(launched + usd(9))).decisions[0].hold_micros, launched);
    }
}
