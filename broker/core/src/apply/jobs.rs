//! Jobs and their tasks.

use spillway_types::{
    FailureReason, IndexRanges, JobId, Reason, Standing, TaskState, TaskStep, TopScope, UnixMs,
};

use super::ApplyError;
use crate::entity::{HeldBy, Job, Submission};
use crate::event::TaskOutcome;
use crate::{Event, Key, State};

impl State {
    pub(super) fn apply_to_job(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::JobSubmitted { job, spec, user, key } = event {
            if let Some((key, digest)) = key {
                self.touch(Key::Submission(key.clone()));
                let submission = Submission { key: key.clone(), digest: digest.clone(), job: *job, at };
                self.submissions.insert(key.clone(), submission);
            }
            self.touch(Key::Job(*job));
            self.jobs.insert(*job, new_job(*job, spec, user, at));
        } else if let Event::JobCancelled { job } = event {
            let entry = self.job_mut(*job)?;
            entry.cancel_requested = true;
            entry.held = None;
            let waiting = std::mem::take(&mut entry.queued);
            for index in waiting.iter() {
                entry.cancelled.insert(index);
                entry.tries.remove(&index);
            }
            self.retire_job(*job, at);
        } else if let Event::SubmissionsForgotten { keys } = event {
            for key in keys {
                self.submissions.remove(key);
                self.touch(Key::Submission(key.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn apply_to_queue(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::JobHeld { job, user, role } = event {
            self.job_mut(*job)?.held = Some(HeldBy { user: user.clone(), role: *role, since: at });
        } else if let Event::JobReleased { job } = event {
            self.job_mut(*job)?.held = None;
        } else if let Event::JobTopped { job, scope } = event {
            // Numbers of journal entries only grow: what is put on top later stands higher.
            let number = self.journal;
            self.job_mut(*job)?.standing = match scope {
                TopScope::Group => Standing::TopOfGroup(number),
                TopScope::All => Standing::TopOfAll(number),
            };
        }
        Ok(())
    }

    pub(super) fn job_mut(&mut self, id: JobId) -> Result<&mut Job, ApplyError> {
        self.changes.touched.insert(Key::Job(id));
        self.jobs.get_mut(&id).ok_or_else(|| ApplyError::missing(id))
    }

    /// Moves the task of an attempt at work.
    pub(super) fn step_task(&mut self, job: JobId, task: u32, step: TaskStep) -> Result<(), ApplyError> {
        let job = self.job_mut(job)?;
        let before =
            job.task(task).ok_or_else(|| ApplyError::missing(format_args!("task {task} of {}", job.id)))?;
        let after = before.after(step)?;
        job.queued.remove(task);
        job.active.insert(task, after);
        Ok(())
    }

    /// Ends the attempt's work on its task.
    pub(super) fn finish_task(
        &mut self,
        job: JobId,
        task: u32,
        outcome: &TaskOutcome,
        at: UnixMs,
    ) -> Result<(), ApplyError> {
        let job = self.job_mut(job)?;
        let before = job
            .active
            .remove(&task)
            .ok_or_else(|| ApplyError::missing(format_args!("task {task} at work")))?;
        let step = match outcome {
            TaskOutcome::Succeeded => TaskStep::Succeed,
            TaskOutcome::Failed { failure } => TaskStep::Fail { failure: failure.clone() },
            TaskOutcome::Cancelled => TaskStep::Cancel,
            TaskOutcome::Requeued { reason, .. } => TaskStep::Requeue { reason: *reason },
            TaskOutcome::Displaced => TaskStep::Requeue { reason: Reason::Retry },
        };
        let needs_finish =
            !matches!(step, TaskStep::Requeue { .. }) && !matches!(before, TaskState::Finishing { .. });
        let before = if needs_finish { before.after(TaskStep::Finish)? } else { before };
        match before.after(step)? {
            TaskState::Succeeded => drop(job.succeeded.insert(task)),
            TaskState::Cancelled => drop(job.cancelled.insert(task)),
            TaskState::Failed { failure } => fail(job, task, failure),
            TaskState::Queued { reason } => {
                job.queued.insert(task);
                job.reason = reason;
                job.since = at;
            }
            TaskState::Placing { .. }
            | TaskState::Provisioning { .. }
            | TaskState::Staging { .. }
            | TaskState::Running { .. }
            | TaskState::Finishing { .. } => {}
        }
        match outcome {
            TaskOutcome::Requeued { counted, .. } => {
                job.tries.entry(task).or_default().counted += u32::from(*counted);
            }
            TaskOutcome::Displaced => job.tries.entry(task).or_default().displaced += 1,
            TaskOutcome::Succeeded | TaskOutcome::Failed { .. } | TaskOutcome::Cancelled => {
                job.tries.remove(&task);
            }
        }
        Ok(())
    }

    /// Lets a job leave memory once it is final and every attempt of it is settled.
    pub(super) fn retire_job(&mut self, id: JobId, at: UnixMs) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_final()) else { return };
        if job.ended.is_none() {
            job.ended = Some(at);
            job.standing = Standing::Plain;
            self.changes.touched.insert(Key::Job(id));
        }
        if job.unsettled == 0
            && let Some(job) = self.jobs.remove(&id)
        {
            self.waits.forget(id);
            self.changes.ended_jobs.push(job);
        }
    }
}

fn fail(job: &mut Job, task: u32, failure: FailureReason) {
    job.failed.insert(task);
    job.first_failure.get_or_insert(failure);
}

fn new_job(id: JobId, spec: &spillway_types::JobSpec, user: &spillway_types::UserName, at: UnixMs) -> Job {
    Job {
        id,
        queued: spec.task_indexes(),
        spec: spec.clone(),
        user: user.clone(),
        submitted: at,
        since: at,
        reason: Reason::Planning,
        held: None,
        standing: Standing::Plain,
        active: std::collections::BTreeMap::new(),
        succeeded: IndexRanges::default(),
        failed: IndexRanges::default(),
        cancelled: IndexRanges::default(),
        first_failure: None,
        tries: std::collections::BTreeMap::new(),
        cancel_requested: false,
        started: None,
        ended: None,
        unsettled: 0,
        cost_micros: 0,
        gpu_ms: 0,
    }
}
