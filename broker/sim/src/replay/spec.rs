//! What a job of the trace asks for, in the words of the federation.

use std::collections::BTreeMap;

use spillway_types::lease::DEFAULT_LEASE;
use spillway_types::{
    Checkpoint, DataMap, Deadline, DurationMs, GpuQuantity, GpuRequest, GpuSelector, JobSpec, Placement,
    Resources, RetryPolicy, SiteName,
};

use super::TraceJob;

/// What a job of the trace asks for. It asks for as little else as there is: accelerators are what counts here.
/// `staging` is the longest time that its inputs may be on the way.
pub(super) fn spec(job: &TraceJob, gpus_per_node: u32, staging: DurationMs) -> JobSpec {
    let nodes = job.gpus.div_ceil(gpus_per_node);
    let each = job.gpus.div_ceil(nodes);
    let gpus = GpuRequest { selector: GpuSelector::Any, quantity: GpuQuantity::Whole(each) };
    // An estimate of 0 is not one; the limit never cuts a run short and holds no more money than it must.
    let estimate = job.estimate.max(DurationMs(1));
    let limit = estimate.max(job.runtime).0.saturating_add(staging.0);
    JobSpec {
        name: job.id.clone(),
        group: job.group.clone(),
        command: vec!["replay".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources { gpus: Some(gpus), cpus_milli: 1, memory_mib: 1 },
        nodes,
        array: None,
        time_limit: DurationMs(limit),
        expected: Some(estimate),
        deadline: job.asks.deadline.map(Deadline::Within),
        class: job.asks.class.clone(),
        inputs: job.asks.inputs.clone(),
        placement: Placement { spot: job.asks.spot, ..Placement::default() },
        checkpoint: Checkpoint { every: job.asks.checkpoint, ..Checkpoint::default() },
        retry: RetryPolicy::default(),
        lease: DEFAULT_LEASE,
    }
}

/// What the job's inputs take on their way to `site`: micros for their providers, and milliseconds. They come one
/// after the other, each from where it costs least.
pub(super) fn moving(job: &TraceJob, data: &DataMap, site: &SiteName) -> (i64, u64) {
    let transfers = job.asks.inputs.iter().filter_map(|input| data.transfer(input, site));
    transfers.fold((0, 0), |(micros, ms): (i64, u64), transfer| {
        (micros.saturating_add(transfer.egress_micros), ms.saturating_add(transfer.ms))
    })
}
