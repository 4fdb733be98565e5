//! The checks themselves, one function each. Each runs on a fresh harness.

use super::probe::Probe;
use super::{Fault, Injection, Outcome, Violation};
use crate::{LaunchError, ObservedState};

pub(super) async fn launch_is_idempotent(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let (first, restarted) = (probe.connect().await, probe.connect().await);
    let launched = probe.launch(&*first, &request).await?;
    for cloud in [&first, &restarted] {
        let again = probe.launch(&**cloud, &request).await?;
        probe.require(again == launched, || format!("{again:?} is not the first answer {launched:?}"))?;
    }
    let listed = probe.exactly_one(&*restarted, request.intent).await?;
    probe.require(listed.provider_id == launched.provider_id, || {
        format!("{} was launched and {} is listed", launched.provider_id, listed.provider_id)
    })
}

pub(super) async fn different_request(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    probe.launch(&*cloud, &request).await?;
    let mut other = request.clone();
    other.broker_addr = "192.0.2.1:4433".to_owned();
    let answer = cloud.launch(&other).await;
    probe.require(answer == Err(LaunchError::Conflict), || {
        format!("another request of the same intent should be a conflict, not {answer:?}")
    })?;
    probe.exactly_one(&*cloud, request.intent).await.map(drop)
}

pub(super) async fn two_at_once(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let (one, other) = (probe.connect().await, probe.connect().await);
    let answers = tokio::join!(one.launch(&request), other.launch(&request), one.launch(&request));
    for answer in [answers.0, answers.1, answers.2] {
        // A provider may send one of the callers away, but never with a final no.
        let fine =
            matches!(answer, Ok(_) | Err(LaunchError::Ambiguous { .. } | LaunchError::Throttled { .. }));
        probe.require(fine, || format!("two calls at once should give one instance, not {answer:?}"))?;
    }
    let launched = probe.launch(&*one, &request).await?;
    let listed = probe.exactly_one(&*other, request.intent).await?;
    probe.require(listed.provider_id == launched.provider_id, || {
        format!("{} was launched and {} is listed", launched.provider_id, listed.provider_id)
    })
}

pub(super) async fn list_is_complete(probe: &Probe<'_>) -> Result<(), Violation> {
    let cloud = probe.connect().await;
    let catalogue = match cloud.catalogue().await {
        Ok(catalogue) => catalogue,
        Err(error) => return probe.fail(format!("the catalogue should be given: {error}")),
    };
    let mut launched = Vec::new();
    for region in &catalogue.regions {
        let Some(offer) = region.offers.iter().find(|offer| offer.available != Some(0)) else { continue };
        let mut request = probe.harness.request();
        request.region = region.name.clone();
        request.instance_type = offer.instance_type.clone();
        request.journal += launched.len() as u64;
        launched.push((probe.launch(&*cloud, &request).await?, request));
    }
    probe.require(!launched.is_empty(), || "the catalogue should offer something".to_owned())?;
    let restarted = probe.connect().await;
    for (launched, request) in &launched {
        let seen = probe.exactly_one(&*restarted, request.intent).await?;
        let right = seen.provider_id == launched.provider_id
            && seen.region == request.region
            && seen.journal == Some(request.journal)
            && seen.deployment == request.deployment
            && seen.instance_type == request.instance_type
            && seen.launched_at == launched.launched_at
            && matches!(seen.state, ObservedState::Pending | ObservedState::Running)
            && seen.interruption.is_none();
        probe.require(right, || format!("{seen:?} does not show {launched:?} of {request:?}"))?;
    }
    Ok(())
}

pub(super) async fn foreign_is_untouched(probe: &Probe<'_>) -> Result<(), Violation> {
    let mut request = probe.harness.request();
    let ours = probe.connect().await;
    let refused = request.clone();
    request.deployment = probe.harness.foreign_deployment();
    let theirs = probe.harness.connect(&request.deployment).await;
    let answer = theirs.launch(&refused).await;
    probe.require(matches!(answer, Err(LaunchError::Refused { .. })), || {
        format!("a request of another deployment should be refused, not {answer:?}")
    })?;
    let launched = probe.launch(&*theirs, &request).await?;
    probe.exactly_one(&*theirs, request.intent).await?;
    match ours.list().await {
        Ok(seen) => {
            let shown = seen.iter().any(|i| i.provider_id == launched.provider_id);
            probe.require(!shown, || format!("another deployment's instance is shown: {seen:?}"))?;
        }
        Err(error) => return probe.fail(format!("a listing that should work failed: {error}")),
    }
    // Whatever the answer is, the instance must live on.
    drop(ours.terminate(&request.region, &launched.provider_id).await);
    let listed = probe.exactly_one(&*theirs, request.intent).await?;
    probe.require(matches!(listed.state, ObservedState::Pending | ObservedState::Running), || {
        format!("another deployment's instance was touched: {listed:?}")
    })
}

pub(super) async fn terminate_twice(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    let launched = probe.launch(&*cloud, &request).await?;
    for _ in 0..2 {
        probe.terminate(&*cloud, &request, &launched.provider_id).await?;
    }
    probe.proven_gone(&*cloud, request.intent).await?;
    let restarted = probe.connect().await;
    probe.terminate(&*restarted, &request, &launched.provider_id).await?;
    probe.none_appears(&*restarted, request.intent).await
}

pub(super) async fn terminate_unknown(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    probe.launch(&*cloud, &request).await?;
    probe.terminate(&*cloud, &request, &probe.harness.unknown_id()).await?;
    probe.exactly_one(&*cloud, request.intent).await.map(drop)
}

pub(super) async fn launch_after_terminate(probe: &Probe<'_>) -> Result<(), Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    let launched = probe.launch(&*cloud, &request).await?;
    probe.terminate(&*cloud, &request, &launched.provider_id).await?;
    let answer = cloud.launch(&request).await;
    probe.require(answer == Err(LaunchError::AlreadyEnded), || {
        format!("a launch right after the end should say that it ended, not {answer:?}")
    })?;
    probe.proven_gone(&*cloud, request.intent).await?;
    let answer = probe.connect().await.launch(&request).await;
    probe.require(answer == Err(LaunchError::AlreadyEnded), || {
        format!("a launch after the proven end should say that it ended, not {answer:?}")
    })?;
    probe.none_appears(&*cloud, request.intent).await
}

pub(super) async fn no_capacity(probe: &Probe<'_>) -> Result<Outcome, Violation> {
    if probe.inject(Fault::NoCapacity).await == Injection::Unsupported {
        return Ok(Outcome::Skipped);
    }
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    let answer = cloud.launch(&request).await;
    probe.require(answer == Err(LaunchError::NoCapacity), || {
        format!("a full region should answer with no capacity, not {answer:?}")
    })?;
    probe.none_appears(&*cloud, request.intent).await?;
    probe.launch(&*cloud, &request).await?;
    probe.exactly_one(&*cloud, request.intent).await?;
    Ok(Outcome::Passed)
}

pub(super) async fn lost_reply(probe: &Probe<'_>) -> Result<Outcome, Violation> {
    if probe.inject(Fault::ReplyLost).await == Injection::Unsupported {
        return Ok(Outcome::Skipped);
    }
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    let answer = cloud.launch(&request).await;
    probe.require(matches!(answer, Err(LaunchError::Ambiguous { .. })), || {
        format!("a lost answer should be ambiguous, not {answer:?}")
    })?;
    let listed = probe.exactly_one(&*cloud, request.intent).await?;
    let again = probe.launch(&*probe.connect().await, &request).await?;
    probe.require(again.provider_id == listed.provider_id, || {
        format!("the request again gave {} and {} was there", again.provider_id, listed.provider_id)
    })?;
    probe.exactly_one(&*cloud, request.intent).await?;
    Ok(Outcome::Passed)
}

pub(super) async fn failed_terminate(probe: &Probe<'_>) -> Result<Outcome, Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    let launched = probe.launch(&*cloud, &request).await?;
    if probe.inject(Fault::TerminateFails).await == Injection::Unsupported {
        return Ok(Outcome::Skipped);
    }
    let answer = cloud.terminate(&request.region, &launched.provider_id).await;
    probe.require(answer.is_err(), || "a terminate that failed should say so".to_owned())?;
    probe.exactly_one(&*cloud, request.intent).await?;
    probe.terminate(&*cloud, &request, &launched.provider_id).await?;
    probe.proven_gone(&*cloud, request.intent).await?;
    Ok(Outcome::Passed)
}

pub(super) async fn partial_list(probe: &Probe<'_>) -> Result<Outcome, Violation> {
    let request = probe.harness.request();
    let cloud = probe.connect().await;
    probe.launch(&*cloud, &request).await?;
    if probe.inject(Fault::ListFails).await == Injection::Unsupported {
        return Ok(Outcome::Skipped);
    }
    let answer = cloud.list().await;
    probe.require(answer.is_err(), || format!("a listing that failed should say so, not {answer:?}"))?;
    probe.exactly_one(&*cloud, request.intent).await?;
    Ok(Outcome::Passed)
}
