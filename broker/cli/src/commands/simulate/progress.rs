//! How far it is, on standard error: a bar where that is a terminal, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::harmless;

/// See the module.
#[derive(Debug)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar over this many jobs.
    pub(super) fn begin(jobs: usize) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(jobs as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg:40} [{bar:24}] {pos}/{len} jobs, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##-"));
            bar
        }))
    }

    /// Says what runs now, from the beginning.
    pub(super) fn next(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.reset();
            bar.set_message(harmless(what));
        }
    }

    /// So many jobs are over.
    pub(super) fn at(&self, done: usize) {
        if let Some(bar) = &self.0 {
            bar.set_position(done as u64);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
