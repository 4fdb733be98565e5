//! Waiting for a condition in a test: a bound, and the last status in the panic when it is reached.

use std::time::Duration;

use xtask::wait::{LOOK_EVERY, Stopwatch, TimedOut, wait_until};

/// Asks `condition` until it answers `Ok`, and gives its value.
///
/// `Err` holds the status so far, in words.
///
/// # Panics
/// After `timeout`, with `what` was awaited and the last status.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, condition: impl FnMut() -> Result<T, String>) -> T {
    match wait_until(what, timeout, condition) {
        Ok(value) => value,
        Err(timed_out) => panic!("{timed_out}"),
    }
}

/// As [`wait_for`], for a condition that awaits. A look that itself hangs is cut off at the bound too.
///
/// # Panics
/// After `timeout`, with `what` was awaited and the last status.
pub async fn wait_for_async<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let watch = Stopwatch::start();
    let mut last_status = "no answer yet".to_owned();
    loop {
        let left = timeout.saturating_sub(watch.elapsed());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(status)) => last_status = status,
            Err(_) => last_status.push_str(" (the last look did not end)"),
        }
        if watch.elapsed() >= timeout {
            panic!("{}", TimedOut { what: what.to_owned(), timeout, last_status });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_awaiting_condition_is_asked_again() {
        let mut looks = 0;
        let value = wait_for_async("two looks", Duration::from_secs(10), async || {
            looks += 1;
            tokio::task::yield_now().await;
            if looks == 2 { Ok(looks) } else { Err(format!("{looks} looks")) }
        })
        .await;
        assert_eq!(value, 2);
    }

    #[tokio::test]
    #[should_panic(
        expected = "waited 50ms for an answer; last status: no answer yet (the last look did not end)"
    )]
    async fn a_look_that_hangs_is_cut_off() {
        wait_for_async("an answer", Duration::from_millis(50), async || {
            std::future::pending::<Result<(), String>>().await
        })
        .await;
    }

    #[test]
    #[should_panic(expected = "waited 0ns for the moon; last status: still dark")]
    fn the_panic_names_the_last_status() {
        wait_for("the moon", Duration::ZERO, || -> Result<(), String> { Err("still dark".to_owned()) });
    }
}
