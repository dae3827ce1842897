//! One connection to the socket: what is under way on it, and its end once nothing is.
//!
//! Owns how long a client may stay without asking anything. Must never end a connection on which a request waits for its
//! answer: an ADD may wait for the kernel longer than a client may stay silent.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

/// So long a client may stay without a request in flight.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What is under way on a connection.
#[derive(Debug)]
pub(super) struct Visit(Mutex<State>);

#[derive(Debug)]
struct State {
    asking: usize,
    /// The last answer, or the last part of one that the client took.
    served: Instant,
}

/// A request in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct Asking(Arc<Visit>);

impl Visit {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { asking: 0, served: Instant::now() })))
    }

    /// A request begins.
    pub(super) fn ask(self: &Arc<Self>) -> Asking {
        self.change(|state| state.asking += 1);
        Asking(Arc::clone(self))
    }

    /// The end of the client's time as it is known now.
    fn until(&self) -> Instant {
        let mut until = Instant::now();
        self.change(|state| {
            if state.asking == 0 {
                until = state.served;
            }
        });
        until + SILENCE
    }

    fn served(&self) {
        self.change(|state| state.served = Instant::now());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().expect("nobody panics while counting"));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.change(|state| state.asking -= 1);
        self.0.served();
    }
}

/// A client's connection, with its place.
pub(super) struct Visitor<S> {
    stream: S,
    visit: Arc<Visit>,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Visitor<S> {
    pub(super) fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        let visit = Visit::new();
        let end = Box::pin(sleep_until(visit.until()));
        Self { stream, visit, end, _place: place }
    }

    /// Ready once the client's time is over; else whoever waits is woken then.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.end.as_mut().poll(context));
            let until = self.visit.until();
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.end.as_mut().reset(until);
        }
    }

    /// What was written, unless the client takes nothing any more.
    fn written<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.visit.served();
            return poll;
        }
        ready!(self.poll_over(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S> Connected for Visitor<S> {
    type ConnectInfo = Arc<Visit>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.visit)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Visitor<S> {
    /// A client whose time is over has said its last word: the server takes its leave as if the client had.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.poll_over(context).map(Ok),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Visitor<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Semaphore,
        time::timeout,
    };

    use super::*;

    fn visitor() -> (Visitor<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (own, client) = tokio::io::duplex(16);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("free");
        (Visitor::new(own, place), client)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_has_to_go() {
        let (mut visitor, _client) = visitor();
        assert_eq!(visitor.read_u8().await.expect_err("its time is over").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_answer_stays_and_has_its_time_anew_afterwards() {
        let (mut visitor, mut client) = visitor();
        let asking = visitor.connect_info().ask();
        timeout(4 * SILENCE, visitor.read_u8()).await.expect_err("it was sent away while it waited");
        drop(asking);
        timeout(SILENCE / 2, visitor.read_u8()).await.expect_err("it was sent away with its answer");
        client.write_u8(7).await.expect("written");
        assert_eq!(visitor.read_u8().await.expect("heard"), 7);
        assert!(visitor.read_u8().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_its_answer_has_to_go() {
        let (mut visitor, _client) = visitor();
        let written = visitor.write_all(&[0; 64]).await;
        assert_eq!(written.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
    }
}
