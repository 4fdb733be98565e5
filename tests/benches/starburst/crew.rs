//! The same work for many things, on all processors; results come in the order of the things.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

/// Does `work` for every one of `things`. The first error, in their order, is the error.
pub(super) fn each<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(things.len()));
    let hands = std::thread::available_parallelism().map_or(1, usize::from).min(things.len());
    std::thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                while let Some((at, thing)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| things.get(at).map(|thing| (at, thing)))
                {
                    let result = work(thing);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().ok().context("a replay has panicked")?;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_counts() {
        let things: Vec<u32> = (0..100).collect();
        assert_eq!(
            each(&things, |thing| Ok(thing * 2)).unwrap(),
            (0..100).map(|n| n * 2).collect::<Vec<_>>()
        );
        let failing = |thing: &u32| if *thing % 7 == 3 { anyhow::bail!("{thing}") } else { Ok(()) };
        assert_eq!(each(&things, failing).unwrap_err().to_string(), "3");
        assert!(each(&[] as &[u32], |_| Ok(())).unwrap().is_empty());
    }
}
