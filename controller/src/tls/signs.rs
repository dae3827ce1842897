//! What a connection has shown since its handshake.
//!
//! Owns the few signs that tell the door whether to keep it: a request, an agent's stream, a newer certificate. Must never hold
//! anything up: each request leaves its sign in passing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

/// The signs of one connection.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    has_asked: AtomicBool,
    streams: AtomicUsize,
    ends_unix: AtomicI64,
}

/// An agent's stream, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Carrying(Arc<Signs>);

impl Signs {
    /// Those of a connection whose certificate ends at `ends_unix`.
    pub(super) fn until(ends_unix: i64) -> Self {
        Self { ends_unix: ends_unix.into(), ..Self::default() }
    }

    /// A request came.
    pub(crate) fn ask(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// It was given a certificate that ends at `ends_unix`, and need not end before that.
    pub(crate) fn prolong(&self, ends_unix: i64) {
        self.ends_unix.fetch_max(ends_unix, Ordering::Relaxed);
    }

    /// It carries an agent's stream from now on.
    pub(crate) fn carry(self: &Arc<Self>) -> Carrying {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Carrying(Arc::clone(self))
    }

    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    pub(super) fn carries(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    pub(super) fn has_ended(&self, now_unix: i64) -> bool {
        self.ends_unix.load(Ordering::Relaxed) <= now_unix
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
