//! Submits the load and follows it until every job has ended, no instance is left, and nothing is held any more.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use spillway_api::v1::{JobState, JobSummary, JobsQuery, MAX_PAGE, SpendQuery};
use spillway_api::{ApiError, ClientError};
use spillway_types::{InstanceId, InstanceState, JobId, SiteName};
use tokio::time::Instant;

use super::federation::{Federation, Patience};
use super::load::{Meant, Piece};
use super::processes::Crew;
use super::progress::{Moment, Progress};
use super::summary::{Evidence, Refused};
use crate::output::Output;

/// How long the load may take: far more than it needs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the job that is meant to be cancelled runs before that.
const RUNS_BEFORE_CANCEL: Duration = Duration::from_millis(1500);

/// Follows one load.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    federation: &'a Federation,
    jobs: BTreeMap<JobId, (Meant, JobSummary)>,
    refused: Vec<Refused>,
    /// Every instance that was ever seen at a provider: an intent that found no machine is none.
    instances: BTreeMap<InstanceId, (SiteName, InstanceState)>,
    /// Since when the job runs that is meant to be cancelled, and whether that was asked for.
    to_cancel: BTreeMap<JobId, (Instant, Asked)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    NotYet,
}

impl<'a> Watch<'a> {
    /// Submits every job, as the user of its group. `key` is what the idempotency keys begin with.
    ///
    /// # Errors
    /// The broker cannot be asked. That it refuses a job is no error here.
    pub(super) async fn submit(
        federation: &'a Federation,
        load: &[Piece],
        key: &str,
    ) -> anyhow::Result<Self> {
        let (jobs, refused) = (BTreeMap::new(), Vec::new());
        let (instances, to_cancel) = (BTreeMap::new(), BTreeMap::new());
        let mut watch = Self { federation, jobs, refused, instances, to_cancel };
        for piece in load {
            let client =
                federation.tenants.get(piece.group()).context("every job has a group of the demo")?;
            match client.submit(&piece.file, &format!("{key}-{}", piece.name())).await {
                Ok(job) => drop(watch.jobs.insert(job.id, (piece.meant, job))),
                Err(ClientError::Api(error)) => watch.refused.push(refusal(piece, &error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(watch)
    }

    /// Follows the jobs until all of them have ended.
    ///
    /// # Errors
    /// One has not in time, a process of the demo ended, or the broker cannot be asked.
    pub(super) async fn follow(
        &mut self,
        crew: &mut Crew,
        progress: &mut Progress,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        for refused in &self.refused {
            progress.say(output, &format!("{} was refused: {}", refused.name, refused.reason));
        }
        let patience = Patience::of("the jobs to end", PATIENCE, LOOK_EVERY);
        loop {
            crew.check()?;
            let moment = self.look().await?;
            self.tell_changes(&moment.jobs, progress, output);
            progress.show(&moment);
            self.cancel_what_is_due(progress, output).await?;
            let open: Vec<&str> = self.open().collect();
            if open.is_empty() {
                return Ok(());
            }
            patience.pause(&format!("{} have not ended: {}", open.len(), open.join(", "))).await?;
        }
    }

    /// Waits until no instance is left and no group holds money any more.
    ///
    /// # Errors
    /// Something is left for too long, or the broker cannot be asked.
    pub(super) async fn settle(&mut self, crew: &mut Crew, progress: &mut Progress) -> anyhow::Result<()> {
        let patience = Patience::of("the instances to end and the books to close", PATIENCE, LOOK_EVERY);
        loop {
            crew.check()?;
            let moment = self.look().await?;
            progress.show(&moment);
            let alive = self.instances.values().filter(|(_, state)| *state != InstanceState::Gone).count();
            let groups = self.federation.admin.groups().await?.items;
            let holding = groups.iter().filter(|group| group.held.micros != 0).count();
            if alive == 0 && holding == 0 {
                return Ok(());
            }
            patience.pause(&format!("{alive} instances are alive, {holding} groups hold money")).await?;
        }
    }

    /// Asks the broker for everything that the summary is made of.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn gather(self, dispatch_us: Vec<u64>) -> anyhow::Result<Evidence> {
        let admin = &self.federation.admin;
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for (id, (meant, _)) in &self.jobs {
            jobs.push((*meant, admin.job(*id).await?));
        }
        jobs.sort_by_key(|(_, job)| (job.summary.submitted, job.summary.id));
        let spend =
            admin.spend(&SpendQuery { by: Some("group,site".to_owned()), ..SpendQuery::default() }).await?;
        let (groups, health) = (admin.groups().await?.items, admin.health().await?);
        Ok(Evidence {
            jobs,
            refused: self.refused,
            instances: self.instances,
            spend,
            groups,
            health,
            dispatch_us,
        })
    }

    async fn look(&mut self) -> anyhow::Result<Moment> {
        let admin = &self.federation.admin;
        let query = JobsQuery { limit: Some(MAX_PAGE), ..JobsQuery::default() };
        let all = admin.jobs(&query).await?.items;
        let jobs = all.into_iter().filter(|job| self.jobs.contains_key(&job.id)).collect();
        let clouds = admin.clouds().await?.items;
        let seen = clouds.iter().flat_map(|cloud| &cloud.instances);
        let seen = seen.filter(|instance| instance.provider_id.is_some());
        let seen: BTreeMap<_, _> =
            seen.map(|instance| (instance.id, (instance.site.clone(), instance.state))).collect();
        // What is not listed any more went long ago.
        for (_, state) in self.instances.values_mut() {
            *state = InstanceState::Gone;
        }
        self.instances.extend(seen);
        Ok(Moment { jobs, sites: admin.sites().await?.items, clouds })
    }

    fn tell_changes(&mut self, jobs: &[JobSummary], progress: &Progress, output: &mut Output) {
        for job in jobs.iter().rev() {
            let Some((meant, known)) = self.jobs.get_mut(&job.id) else { continue };
            if let Some(what) = change(known, job) {
                progress.say(output, &what);
            }
            if *meant == Meant::BeCancelled && job.state == JobState::Running {
                self.to_cancel.entry(job.id).or_insert_with(|| (Instant::now(), Asked::NotYet));
            }
            known.clone_from(job);
        }
    }

    async fn cancel_what_is_due(&mut self, progress: &Progress, output: &mut Output) -> anyhow::Result<()> {
        for (job, (since, asked)) in &mut self.to_cancel {
            if *asked == Asked::NotYet && since.elapsed() >= RUNS_BEFORE_CANCEL {
                let summary = self.federation.admin.cancel(*job).await?;
                progress.say(output, &format!("{} is being cancelled", summary.name));
                *asked = Asked::Yes;
            }
        }
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &str> {
        let open = self.jobs.values().filter(|(_, job)| !job.state.is_final());
        open.map(|(_, job)| job.name.as_str())
    }
}

fn refusal(piece: &Piece, error: &ApiError) -> Refused {
    Refused {
        name: piece.name().to_owned(),
        group: piece.group().to_owned(),
        code: error.code,
        reason: error.message.clone(),
        hint: error.hint.clone(),
        meant: piece.meant == Meant::BeRefused,
    }
}

/// What there is to say of a job that has gone from `before` to `now`.
fn change(before: &JobSummary, now: &JobSummary) -> Option<String> {
    if before.state == now.state {
        return None;
    }
    let sites: Vec<&str> = now.sites.iter().map(SiteName::as_str).collect();
    let sites = sites.join(", ");
    match now.state {
        JobState::Provisioning if sites.is_empty() => Some(format!("{} leaves for the cloud", now.name)),
        JobState::Provisioning => Some(format!("{} leaves for {sites}", now.name)),
        JobState::Running => Some(format!("{} runs on {sites}", now.name)),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled if sites.is_empty() => {
            Some(format!("{} {}", now.name, now.state.as_str()))
        }
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
            Some(format!("{} {} on {sites}", now.name, now.state.as_str()))
        }
        JobState::Queued | JobState::Placing | JobState::Staging | JobState::Finishing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_change_is_told_once_and_only_where_it_matters() {
        let at =
            |state| JobSummary { sites: vec!["dc".parse().expect("a name")], ..samples::summary("j", state) };
        let told = |from, to| change(&at(from), &at(to));
        assert_eq!(told(JobState::Queued, JobState::Running).as_deref(), Some("j runs on dc"));
        assert_eq!(told(JobState::Running, JobState::Failed).as_deref(), Some("j failed on dc"));
        assert_eq!(told(JobState::Placing, JobState::Provisioning).as_deref(), Some("j leaves for dc"));
        assert_eq!(told(JobState::Running, JobState::Running), None);
        assert_eq!(told(JobState::Running, JobState::Finishing), None);
        let never_ran = samples::summary("j", JobState::Cancelled);
        assert_eq!(change(&at(JobState::Queued), &never_ran).as_deref(), Some("j cancelled"));
    }
}
