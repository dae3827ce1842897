//! Leader election by the Lease.
//!
//! Owns this replica's requests to the Lease and the clock they are judged by; the rules are the [`machine`]'s. There
//! is no library for it that counts from when a renewal was sent and waits for an unchanged object by its own clock.
//! Must never let anybody lead longer than the machine says, whatever a request is waiting for.

mod clock;
mod fence;
mod lease;
mod machine;

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use ring::rand::{SecureRandom as _, SystemRandom};
use weft_api::names;

pub(crate) use self::fence::Fence;
use self::machine::{Answer, Bid, Machine, Turn};
use super::{chain, is_conflict};
use crate::config::LeaseTimes;

/// The longest between two looks at the clock: timers do not go on while the machine sleeps, and the clock does.
const GLANCE: Duration = Duration::from_millis(500);

/// How the election stands, as far as this replica knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Who leads; none where nobody is known to.
    pub(super) holder: Option<String>,
    /// Where agents reach it.
    pub(super) address: Option<SocketAddr>,
    /// What keeps this replica from knowing.
    pub(super) trouble: Option<String>,
}

/// This replica's part in the election.
pub(super) struct Election {
    leases: Api<Lease>,
    machine: Machine,
    fence: Fence,
    me: String,
    /// Where agents reach this replica when it leads.
    address: SocketAddr,
    times: LeaseTimes,
    /// The object as it was read or written last, to be written again with its version.
    object: Option<Lease>,
    trouble: Option<String>,
}

impl Election {
    /// A candidate. Its name is unique to this process: an earlier one of the same pod may still be in the Lease.
    pub(super) fn new(client: Client, namespace: &str, identity: &str, address: SocketAddr, times: LeaseTimes) -> Self {
        let me = format!("{identity}_{:08x}", random());
        let leases = Api::namespaced(client, namespace);
        let machine = Machine::new(me.clone(), times);
        Self { leases, machine, fence: Fence::default(), me, address, times, object: None, trouble: None }
    }

    /// This replica's name in the Lease.
    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// What holds this replica back once it does not lead.
    pub(super) fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Resolves once this replica leads; `tell` hears how it stands until then.
    pub(super) async fn elected(&mut self, tell: impl Fn(Standing)) {
        while !self.machine.leads(clock::now()) {
            tell(self.standing());
            self.step().await;
        }
        tracing::info!(replica = self.me, "elected");
    }

    /// Renews, and resolves once this replica does not lead any more.
    pub(super) async fn keep(&mut self) {
        while self.machine.leads(clock::now()) {
            self.step().await;
        }
        let why = match (self.standing().holder.filter(|holder| *holder != self.me), &self.trouble) {
            (Some(other), _) => format!("{other} has the Lease"),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => "no renewal was confirmed in time: this replica slept, or had no turn".to_owned(),
        };
        tracing::warn!(replica = self.me, "the leadership is lost: {why}");
    }

    /// Gives the Lease back where it is this replica's, so that another need not wait until it ends.
    pub(super) async fn release(&mut self) {
        self.machine.give_up();
        self.fence.set(None);
        let deadline = clock::now() + self.times.renew_deadline / 2;
        while clock::now() < deadline {
            match clock::within(deadline, self.try_release()).await {
                Some(Ok(())) => return,
                Some(Err(error)) if is_conflict(&error) => {}
                Some(Err(error)) => return tracing::warn!("the Lease is not given back: {}", chain(&error)),
                None => return tracing::warn!("the Lease is not given back: the API server did not answer in time"),
            }
        }
    }

    async fn try_release(&mut self) -> Result<(), kube::Error> {
        let mut object = self.leases.get(names::CONTROLLER).await?;
        if lease::seen(&object).holder.as_deref() == Some(&self.me) {
            lease::release(&mut object);
            self.leases.replace(names::CONTROLLER, &PostParams::default(), &object).await?;
            tracing::info!(replica = self.me, "the Lease is given back");
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        let holder = self.machine.holder(clock::now()).map(str::to_owned);
        let address = holder.as_ref().and_then(|_| lease::address(self.object.as_ref()?));
        Standing { holder, address, trouble: self.trouble.clone() }
    }

    async fn step(&mut self) {
        let now = clock::now();
        let bid = match self.machine.turn(now) {
            Turn::Wait(until) => return tokio::time::sleep((until - now).min(GLANCE)).await,
            Turn::Read => None,
            Turn::Bid(bid) => Some(bid),
        };
        let patience = now + self.times.renew_deadline / 2;
        let deadline = self.machine.until().filter(|until| *until > now).map_or(patience, |until| until.min(patience));
        let answer = match clock::within(deadline, self.ask(bid)).await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => self.troubled(&chain(&error)),
            None => self.troubled("the API server did not answer in time"),
        };
        self.machine.answered(now, clock::now(), answer, f64::from(random()) / f64::from(u32::MAX));
        self.fence.set(self.machine.until());
    }

    /// Reads the Lease, or writes it.
    async fn ask(&mut self, bid: Option<Bid>) -> Result<Answer, kube::Error> {
        let (object, written) = match (bid, &self.object) {
            (Some(bid), Some(known)) => {
                let mut object = known.clone();
                lease::hold(&mut object, &bid, &self.me, self.address, self.times.duration);
                match self.leases.replace(names::CONTROLLER, &PostParams::default(), &object).await {
                    Err(error) if is_conflict(&error) => return Ok(Answer::Conflict),
                    object => (object?, true),
                }
            }
            _ => (self.leases.get(names::CONTROLLER).await?, false),
        };
        self.trouble = None;
        let seen = lease::seen(&object);
        self.object = Some(object);
        Ok(if written { Answer::Written(seen) } else { Answer::Read(seen) })
    }

    fn troubled(&mut self, detail: &str) -> Answer {
        let trouble = format!("Lease {} cannot be read or written: {detail}", names::CONTROLLER);
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
