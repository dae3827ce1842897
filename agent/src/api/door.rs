//! Who is let in at the socket.
//!
//! Owns accepting, and how many clients there are at once; the others wait in the kernel's queue, at no cost. Must never
//! use descriptors that the agent needs for its own work, and must never spin if none is left.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures::{Stream, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{info, warn};

use super::visit::Visitor;

/// Clients at once: all pods of a node, and operators.
const PLACES: usize = 512;
/// Descriptors for all else: kernel, journal, controller, probes, metrics.
const OTHERS: usize = 128;
/// After a failed accept, most likely for want of descriptors: trying at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(200);

/// All that come, each with a place, for ever.
pub(super) fn visitors(listener: UnixListener) -> impl Stream<Item = io::Result<Visitor<UnixStream>>> {
    let (listener, places) = (Arc::new(listener), Arc::new(Semaphore::new(make_room())));
    stream::unfold((listener, places), async |(listener, places)| {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accept = || {
            let listener = Arc::clone(&listener);
            async move { listener.accept().await.map(|(stream, _)| stream) }
        };
        Some((Ok(next(place, accept).await), (listener, places)))
    })
}

async fn next<S, F: Future<Output = io::Result<S>>>(
    place: OwnedSemaphorePermit,
    mut accept: impl FnMut() -> F,
) -> Visitor<S> {
    loop {
        match accept().await {
            Ok(stream) => return Visitor::new(stream, place),
            Err(error) => {
                warn!("cannot accept a client on the agent's socket: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Raises the soft limit on open files as far as needed and allowed, and says how many clients fit.
fn make_room() -> usize {
    let present = getrlimit(Resource::Nofile);
    let (soft, hard) = (present.current.unwrap_or(u64::MAX), present.maximum.unwrap_or(u64::MAX));
    let target = soft.max(hard.min((PLACES + OTHERS) as u64));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum: present.maximum });
    let limit = if raised.is_ok() { target } else { soft };
    let places = places(usize::try_from(limit).unwrap_or(usize::MAX));
    if places < PLACES {
        info!(limit, places, "the limit on open files leaves room for fewer than {PLACES} clients: raise LimitNOFILE=");
    }
    places
}

/// A quarter of few descriptors, so that the agent's own work goes on.
fn places(limit: usize) -> usize {
    PLACES.min(limit.saturating_sub(OTHERS)).max(limit.min(OTHERS) / 4).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_followed_by_a_pause() {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("free");
        let (began, mut failures) = (Instant::now(), 3);
        let accept = || {
            failures -= 1;
            std::future::ready(if failures > 0 { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) })
        };
        let _visitor = next(place, accept).await;
        assert!(began.elapsed() >= 2 * PAUSE, "it was tried again at once");
    }

    #[test]
    fn own_work_has_descriptors_left_however_few_there_are() {
        assert_eq!(places(usize::MAX), PLACES);
        assert!(places(1024) >= 256, "the usual limit does not do for a full node");
        for limit in [1, 16, 64, 128, 150, 200, 1024] {
            assert!(places(limit) >= 1 && places(limit) <= (limit * 3 / 4).max(1), "{} of {limit}", places(limit));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_lets_in_who_waits_once_somebody_has_to_go() {
        use futures::StreamExt;
        use tokio::io::AsyncReadExt;

        let path = std::env::temp_dir().join(format!("weft-door-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        let mut visitors = Box::pin(visitors(listener));
        let (mut inside, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..PLACES {
            clients.push(std::os::unix::net::UnixStream::connect(&path).expect("nobody is refused"));
            inside.push(visitors.next().await.expect("endless").expect("accepted"));
        }
        clients.push(std::os::unix::net::UnixStream::connect(&path).expect("it queues"));
        assert!(futures::poll!(visitors.next()).is_pending(), "more than there are places");
        let mut first = inside.swap_remove(0);
        assert!(first.read_u8().await.is_err(), "its time is over");
        drop(first);
        assert!(visitors.next().await.expect("endless").is_ok());
        let _ = std::fs::remove_file(&path);
    }
}
