//! Answers that the cluster owes.
//!
//! Owns them until the cluster has given them, and their way to whoever asked: one in ten gets lost.

use tokio::sync::oneshot::{self, error::TryRecvError};
use weft_core::types::Revision;

use super::{
    Checked, Planted, hold,
    world::{Event, World},
};
use crate::{
    clock::Clock,
    cluster::{Command, NodeIdentity, Refusal, Session},
    pki::JoinToken,
};

/// How long certificates are good for, in seconds.
const LIFETIME: i64 = 86_400;

/// An answer that the cluster owes somebody.
#[derive(Debug)]
pub(super) enum Owed {
    Join(u64, NodeIdentity, oneshot::Receiver<Result<u64, Refusal>>),
    Renew(u64, NodeIdentity, oneshot::Receiver<Result<(), Refusal>>),
    Connect(u64, oneshot::Receiver<Result<Session, Refusal>>),
    Token(usize, JoinToken, oneshot::Receiver<Result<(), Refusal>>),
    Delete(oneshot::Receiver<Result<Revision, Refusal>>),
}

impl World {
    /// Hands on what the cluster has answered.
    pub(super) fn answer(&mut self) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        let mut waiting = Vec::new();
        for owed in std::mem::take(&mut server.owed) {
            waiting.extend(self.settle(owed)?);
        }
        if let Some(server) = &mut self.server {
            server.owed.extend(waiting);
        }
        Ok(())
    }

    fn settle(&mut self, owed: Owed) -> Checked<Option<Owed>> {
        match owed {
            Owed::Join(request, identity, mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Join(request, identity, reply))),
                Some(answer) => {
                    if let Ok(life) = &answer {
                        // Where the planted bug does just that, it is left to the streams to show it.
                        let is_written = self.planted == Planted::AnnounceBeforePersist
                            || self.disk.ledger(|ledger| ledger.ever_lived(&identity.name, *life));
                        hold!(is_written, "{} was given life {life} before that was written", identity.name);
                        self.counts.joins += 1;
                    }
                    self.counts.exhausted += u64::from(matches!(answer, Err(Refusal::PoolsExhausted { .. })));
                    let ends_unix = self.clock.unix().seconds() + LIFETIME;
                    let identity = answer.map(|incarnation| NodeIdentity { incarnation, ends_unix, ..identity });
                    self.send_answer(request, identity);
                }
            },
            Owed::Renew(request, identity, mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Renew(request, identity, reply))),
                Some(answer) => {
                    let ends_unix = self.clock.unix().seconds() + LIFETIME;
                    if answer.is_ok() {
                        self.command(Command::Renewed(identity.name.clone(), identity.incarnation, ends_unix));
                    }
                    self.send_answer(request, answer.map(|()| NodeIdentity { ends_unix, ..identity }));
                }
            },
            Owed::Connect(link, mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Connect(link, reply))),
                Some(answer) => self.connected(link, answer)?,
            },
            Owed::Token(agent, token, mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Token(agent, token, reply))),
                Some(Ok(())) => self.agents[agent].token = Some(token),
                Some(Err(_)) => {}
            },
            Owed::Delete(mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Delete(reply))),
                Some(answer) => self.counts.deletions += u64::from(answer.is_ok()),
            },
        }
        Ok(None)
    }

    fn send_answer(&mut self, number: u64, answer: Result<NodeIdentity, Refusal>) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        request.answer = Some(answer);
        // One in ten gets lost.
        if self.is_healing || self.random.chance(90) {
            self.soon(0, 50, Event::Answer(number));
        }
    }

    pub(super) fn owe(&mut self, owed: Owed) {
        if let Some(server) = &mut self.server {
            server.owed.push(owed);
        }
    }
}

/// The answer, once there is one; a sender that is gone without one is as good as a controller that stops.
fn answered<T>(reply: &mut oneshot::Receiver<Result<T, Refusal>>) -> Option<Result<T, Refusal>> {
    match reply.try_recv() {
        Ok(answer) => Some(answer),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(Refusal::Stopping)),
    }
}
