//! The response of one stream.
//!
//! Owns its cursor. A few frames at most are under way: the next is asked of the fan-out only after one of them has
//! left for the socket, so a slow agent costs one cursor and gets the latest of everything once it reads again.
//! (HTTP/2's own limit is the agent's window, which is wide enough for hundreds of frames, and their bookkeeping is
//! never given back.) Must never copy a frame.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tonic::{Code, Status};

use crate::fanout::{Fanout, Next, Snapshot};

/// Frames of one stream that may be under way.
const UNDER_WAY: usize = 4;

/// A frame that is under way until it is dropped.
struct Tracked {
    frame: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// The sending half of a stream.
pub(crate) struct Outbound {
    fanout: Arc<Fanout>,
    published: watch::Receiver<u64>,
    cursor: u64,
    waiting: Option<Bytes>,
    snapshot: Option<(Arc<Snapshot>, usize)>,
    places: Arc<Semaphore>,
    /// The order to clean up was sent: nothing comes after it.
    is_told_to_clean: bool,
    end: oneshot::Receiver<Status>,
    is_over: bool,
    /// Dropped with the body, by which the other half knows.
    _open: oneshot::Sender<Infallible>,
}

/// How the receiving half ends the sending one, and learns of its end.
pub(crate) struct Ends {
    /// Ends the stream with a status.
    pub(crate) end: oneshot::Sender<Status>,
    /// Resolves once the body is gone.
    pub(crate) gone: oneshot::Receiver<Infallible>,
}

impl Outbound {
    pub(crate) fn new(fanout: &Arc<Fanout>, begin: Next) -> (Self, Ends) {
        let (end_sender, end) = oneshot::channel();
        let (open, gone) = oneshot::channel();
        let mut outbound = Self {
            fanout: Arc::clone(fanout),
            published: fanout.subscribe(),
            cursor: 0,
            waiting: None,
            snapshot: None,
            places: Arc::new(Semaphore::new(UNDER_WAY)),
            is_told_to_clean: false,
            end,
            is_over: false,
            _open: open,
        };
        outbound.take(begin);
        (outbound, Ends { end: end_sender, gone })
    }

    /// As a body of gRPC messages and trailers.
    pub(crate) fn into_body(self) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
        StreamBody::new(Box::pin(stream::unfold(self, |mut outbound| async move {
            let frame = outbound.next().await?;
            Some((Ok(frame), outbound))
        })))
    }

    fn take(&mut self, next: Next) {
        match next {
            Next::Frame(frame, sequence) => {
                self.waiting = Some(frame);
                self.cursor = sequence;
            }
            Next::Snapshot(snapshot) => {
                self.cursor = snapshot.sequence;
                self.snapshot = Some((snapshot, 0));
            }
        }
    }

    async fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.is_over {
            return None;
        }
        let place = tokio::select! {
            biased;
            ended = &mut self.end => return Some(self.finish(ended)),
            place = Arc::clone(&self.places).acquire_owned() => place.expect("nobody closes it"),
        };
        loop {
            // Looked at first: whatever is told from here on wakes the stream.
            let published = *self.published.borrow_and_update();
            if let Some(frame) = self.order().or_else(|| self.ready()) {
                return Some(Frame::data(Bytes::from_owner(Tracked { frame, _place: place })));
            }
            let is_behind = published > self.cursor && !self.is_told_to_clean;
            if let Some(next) = is_behind.then(|| self.fanout.after(self.cursor)).flatten() {
                self.take(next);
                continue;
            }
            tokio::select! {
                biased;
                ended = &mut self.end => return Some(self.finish(ended)),
                // The fan-out lives as long as any stream, so this only wakes.
                _woken = self.published.changed() => {}
            }
        }
    }

    /// The order to clean up, once: an agent that hears it needs nothing else of what waits for it.
    fn order(&mut self) -> Option<Bytes> {
        // Each message of a snapshot but the last consists of two frames, which belong together.
        let is_between_messages = self.snapshot.as_ref().is_none_or(|(_, next)| next % 2 == 0);
        if self.is_told_to_clean || !is_between_messages {
            return None;
        }
        let order = self.fanout.clean_up()?;
        self.is_told_to_clean = true;
        (self.waiting, self.snapshot) = (None, None);
        Some(order)
    }

    fn ready(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.waiting.take() {
            return Some(frame);
        }
        let (snapshot, next) = self.snapshot.as_mut()?;
        let frame = snapshot.frames.get(*next).cloned();
        *next += 1;
        if frame.is_none() {
            self.snapshot = None;
        }
        frame
    }

    fn finish(&mut self, ended: Result<Status, oneshot::error::RecvError>) -> Frame<Bytes> {
        self.is_over = true;
        let status = ended.unwrap_or_else(|_| Status::new(Code::Ok, ""));
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from(i32::from(status.code())));
        }
        Frame::trailers(trailers)
    }
}

#[cfg(test)]
mod tests;
