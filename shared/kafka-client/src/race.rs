//! Attempts at several places, of which one success is enough.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

/// Attempts each place in order until one attempt succeeds. The next attempt starts when one has failed, or after `delay`
/// beside those that have not ended, so a place that does not answer delays the others only once.
///
/// # Errors
/// The last failure; `None` if there are no places.
pub(crate) async fn first_success<P, T, E, F>(
    places: impl IntoIterator<Item = P, IntoIter: Send>,
    delay: Duration,
    mut attempt: impl FnMut(P) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut places = places.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        attempts.extend(places.next().map(&mut attempt));
        let has_more = places.peek().is_some();
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(success)) => return Ok(success),
                Some(Err(error)) => failure = Some(error),
                None => return Err(failure),
            },
            () = sleep(delay), if has_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    const DELAY: Duration = Duration::from_secs(1);

    /// Places answer after so many milliseconds, or not at all.
    async fn race(places: &[Option<u64>]) -> (Result<usize, Option<usize>>, Vec<u128>) {
        let begun = Instant::now();
        let started = Mutex::new(Vec::new());
        let outcome = first_success(places.iter().enumerate(), DELAY, |(index, after)| {
            started.lock().unwrap().push(begun.elapsed().as_millis());
            async move {
                let Some(after) = after else { return pending().await };
                sleep(Duration::from_millis(*after)).await;
                // Even numbers of milliseconds are failures.
                if after % 2 == 0 { Err(index) } else { Ok(index) }
            }
        })
        .await;
        (outcome, started.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_does_not_answer_delays_the_others_once() {
        assert_eq!(race(&[None, Some(1)]).await, (Ok(1), vec![0, 1000]));
        assert_eq!(race(&[None, Some(10), Some(10), Some(1)]).await.1, [0, 1000, 1010, 1020]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_place_may_still_win() {
        assert_eq!(race(&[Some(1501), Some(4001)]).await, (Ok(0), vec![0, 1000]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_returned_when_every_place_has_failed() {
        assert_eq!(race(&[Some(2), Some(4)]).await, (Err(Some(1)), vec![0, 2]));
        assert_eq!(race(&[]).await, (Err(None), vec![]));
    }
}
