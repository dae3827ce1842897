//! One accepted connection.
//!
//! Owns the socket and what is known of the other end. Must never wait for a peer that does not read: [`Kill`] ends the
//! connection from outside, whatever HTTP/2 is waiting for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Enough, OneRenewal, Signs, lobby::Seated};
use crate::pki::Identity;

/// Who is at the other end; in the extensions of every request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Where it connects to, of the controller's own addresses.
    pub(crate) own: IpAddr,
    /// Whom its certificate speaks for; none for one that is joining.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What its connection is good for once its certificate has ended.
    pub(crate) renewal: Arc<OneRenewal>,
    /// Ends its connection.
    pub(crate) kill: Arc<Kill>,
    /// What its connection has shown.
    pub(crate) signs: Arc<Signs>,
    /// Why its requests are refused, where its connection is one too many.
    pub(crate) enough: Option<Enough>,
}

/// Ends a connection from outside.
#[derive(Debug, Default)]
pub(crate) struct Kill {
    dead: AtomicBool,
    reader: AtomicWaker,
}

impl Kill {
    /// The connection fails at its next look, which is now.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        self.reader.register(context.waker());
        if self.dead.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended by the controller"));
        }
        Ok(())
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) caller: Caller,
    /// Its place among all, free again when it is dropped.
    pub(super) _seated: Seated,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.caller.kill.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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
