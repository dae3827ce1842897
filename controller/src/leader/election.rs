//! The election: one candidate's turns at the Lease.
//!
//! Owns this replica's requests to the [`Lease`] and the clock they are judged by; the rules are the machine's. There is no library
//! for it that counts from when a renewal was sent and waits for an unchanged record by its own clock. Must never let anybody lead
//! longer than the machine says, whatever a request is waiting for.

use std::{net::SocketAddr, time::Duration};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    Bid, Claim, Fence, Lease, LeaseError, Standby,
    clock::{self, GLANCE},
    machine::{Answer, Machine, Turn},
};
use crate::config::LeaseTimes;

/// What is said of a request that took too long.
const NO_ANSWER: &str = "no answer came in time";

/// This replica's part in the election.
pub(crate) struct Election {
    lease: Box<dyn Lease>,
    machine: Machine,
    fence: Fence,
    /// What this replica writes into the Lease.
    claim: Claim,
    /// The longest that one request may take.
    patience: Duration,
    trouble: Option<String>,
}

impl Election {
    /// A candidate that agents reach at `address` when it leads. Its name is unique to this process: an earlier one of the same
    /// `identity` may still be in the Lease.
    pub(crate) fn new(lease: Box<dyn Lease>, identity: &str, address: SocketAddr, times: LeaseTimes) -> Self {
        let holder = format!("{identity}_{:08x}", random());
        let machine = Machine::new(holder.clone(), times);
        let claim = Claim { holder, address, duration: times.duration };
        Self { lease, machine, fence: Fence::default(), claim, patience: times.renew_deadline / 2, trouble: None }
    }

    /// This replica's name in the Lease.
    pub(crate) fn me(&self) -> &str {
        &self.claim.holder
    }

    /// What holds this replica back once it does not lead.
    pub(crate) fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Resolves once this replica leads; `tell` hears how it stands until then.
    pub(crate) async fn elected(&mut self, tell: impl Fn(Standby)) {
        while !self.machine.leads(clock::now()) {
            tell(self.standing());
            self.step().await;
        }
        tracing::info!(replica = self.me(), "elected");
    }

    /// Renews, and resolves once this replica does not lead any more.
    pub(crate) async fn keep(&mut self) {
        while self.machine.leads(clock::now()) {
            self.step().await;
        }
        let other = self.standing().leader.filter(|leader| leader != self.me());
        let why = match (other, &self.trouble) {
            (Some(other), _) => format!("{other} has the Lease"),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => "no renewal was confirmed in time: this replica slept, or had no turn".to_owned(),
        };
        tracing::warn!(replica = self.me(), "the leadership is lost: {why}");
    }

    /// Gives the Lease back where it is this replica's, so that another need not wait until it ends.
    pub(crate) async fn release(&mut self) {
        self.machine.give_up();
        self.fence.set(None);
        let deadline = clock::now() + self.patience;
        while clock::now() < deadline {
            match clock::within(deadline, self.lease.release(&self.claim.holder)).await {
                Some(Ok(true)) => return tracing::info!(replica = self.me(), "the Lease is given back"),
                Some(Ok(false)) => return,
                Some(Err(LeaseError::Conflict)) => {}
                Some(Err(error)) => return tracing::warn!("the Lease is not given back: {error}"),
                None => return tracing::warn!("the Lease is not given back: {NO_ANSWER}"),
            }
        }
    }

    /// How it stands, as far as this replica knows.
    pub(crate) fn standing(&self) -> Standby {
        let now = clock::now();
        let leader = self.machine.holder(now).map(str::to_owned);
        Standby { leader, address: self.machine.address(now), trouble: self.trouble.clone() }
    }

    async fn step(&mut self) {
        let now = clock::now();
        let bid = match self.machine.turn(now) {
            Turn::Wait(until) => return tokio::time::sleep((until - now).min(GLANCE)).await,
            Turn::Read => None,
            Turn::Bid(bid) => Some(bid),
        };
        let latest = now + self.patience;
        let deadline = self.machine.until().filter(|until| *until > now).map_or(latest, |until| until.min(latest));
        let answer = match clock::within(deadline, self.ask(bid)).await {
            Some(Ok(answer)) => self.untroubled(answer),
            Some(Err(LeaseError::Conflict)) => Answer::Conflict,
            Some(Err(LeaseError::Failed(error))) => self.troubled(&error.to_string()),
            None => self.troubled(NO_ANSWER),
        };
        self.machine.answered(now, clock::now(), answer, f64::from(random()) / f64::from(u32::MAX));
        self.fence.set(self.machine.until());
    }

    /// Reads the Lease, or writes it.
    async fn ask(&mut self, bid: Option<Bid>) -> Result<Answer, LeaseError> {
        match bid {
            Some(bid) => self.lease.hold(&bid, &self.claim).await.map(Answer::Written),
            None => self.lease.read().await.map(Answer::Read),
        }
    }

    fn untroubled(&mut self, answer: Answer) -> Answer {
        self.trouble = None;
        answer
    }

    fn troubled(&mut self, detail: &str) -> Answer {
        let trouble = format!("{} cannot be read or written: {detail}", self.lease.name());
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
        }
        self.trouble = Some(trouble);
        Answer::Failed
    }
}

/// Keeps replicas apart; where the system has no randomness, they meet and one of them wins.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let _zero_will_do = SystemRandom::new().fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
