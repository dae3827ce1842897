//! The edge to the record that says who leads.
//!
//! Owns what a candidate may ask of it: to read it, to write itself into it where nothing changed since, and to take itself out. Must
//! never judge by a time in it: clocks of different machines do not agree.

use std::{net::SocketAddr, time::Duration};

use futures::future::BoxFuture;

/// The record as it was read, or as the answer to a write showed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Which record: it may be deleted and made again.
    pub uid: String,
    /// Changes with every write.
    pub version: String,
    /// Who holds it; none where it was released, or never held.
    pub holder: Option<String>,
    /// Where its holder says that agents reach it.
    pub address: Option<SocketAddr>,
    /// How long its holder says it must be unchanged.
    pub duration: Option<Duration>,
    /// How often it changed hands; none where it was never held.
    pub transitions: Option<i32>,
}

/// A write that must fail where the version is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// The version that was seen last.
    pub version: String,
    /// How often it changed hands, with this time.
    pub transitions: i32,
    /// It changes hands by this.
    pub acquires: bool,
}

/// What a candidate writes of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name, which is no other candidate's, nor that of an earlier run.
    pub holder: String,
    /// Where agents reach it.
    pub address: SocketAddr,
    /// How long it must be unchanged before another one takes it.
    pub duration: Duration,
}

/// Why a request to the record brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody has written it since; certainly nothing was changed.
    #[error("it has changed since it was read")]
    Conflict,
    /// Unknown what became of the request.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// One candidate's way to the record. Each write counts as a whole or not at all, and only where the version is the one that was seen;
/// it may take effect although its answer is lost.
pub trait Lease: Send + Sync + 'static {
    /// What people call it, such as "Lease weft-controller".
    fn name(&self) -> String;

    /// Reads it.
    fn read(&mut self) -> BoxFuture<'_, Result<Seen, LeaseError>>;

    /// Makes it this candidate's for another while.
    fn hold<'a>(&'a mut self, bid: &'a Bid, claim: &'a Claim) -> BoxFuture<'a, Result<Seen, LeaseError>>;

    /// Makes it nobody's where `holder` has it; true where that was so.
    fn release<'a>(&'a mut self, holder: &'a str) -> BoxFuture<'a, Result<bool, LeaseError>>;
}
