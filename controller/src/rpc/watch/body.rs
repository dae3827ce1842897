//! The response of one stream.
//!
//! Owns its cursor. HTTP/2 asks for the next frame only while the agent's window has room, so a slow agent costs one
//! cursor and whatever part of one shared frame is under way. Must never copy a frame.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{oneshot, watch};
use tonic::{Code, Status};

use crate::fanout::{Fanout, Next, Snapshot};

/// The sending half of a stream.
pub(super) struct Outbound {
    fanout: Arc<Fanout>,
    published: watch::Receiver<u64>,
    cursor: u64,
    waiting: Option<Bytes>,
    snapshot: Option<(Arc<Snapshot>, usize)>,
    end: oneshot::Receiver<Status>,
    is_over: bool,
    /// Dropped with the body, by which the other half knows.
    _open: oneshot::Sender<Infallible>,
}

/// How the receiving half ends the sending one, and learns of its end.
pub(super) struct Ends {
    /// Ends the stream with a status.
    pub(super) end: oneshot::Sender<Status>,
    /// Resolves once the body is gone.
    pub(super) gone: oneshot::Receiver<Infallible>,
}

impl Outbound {
    pub(super) fn new(fanout: &Arc<Fanout>, begin: Next) -> (Self, Ends) {
        let (end_sender, end) = oneshot::channel();
        let (open, gone) = oneshot::channel();
        let mut outbound = Self {
            fanout: Arc::clone(fanout),
            published: fanout.subscribe(),
            cursor: 0,
            waiting: None,
            snapshot: None,
            end,
            is_over: false,
            _open: open,
        };
        outbound.take(begin);
        (outbound, Ends { end: end_sender, gone })
    }

    /// As a body of gRPC messages and trailers.
    pub(super) fn into_body(self) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
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
        while !self.is_over {
            if let Ok(status) = self.end.try_recv() {
                return Some(self.finish(&status));
            }
            if let Some(frame) = self.ready() {
                return Some(Frame::data(frame));
            }
            let published = *self.published.borrow_and_update();
            if let Some(next) = (published > self.cursor).then(|| self.fanout.after(self.cursor)).flatten() {
                self.take(next);
                continue;
            }
            tokio::select! {
                biased;
                ended = &mut self.end => {
                    let status = ended.unwrap_or_else(|_| Status::new(Code::Ok, ""));
                    return Some(self.finish(&status));
                }
                // The fan-out lives as long as any stream, so this only wakes.
                _woken = self.published.changed() => {}
            }
        }
        None
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

    fn finish(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from(i32::from(status.code())));
        }
        Frame::trailers(trailers)
    }
}
