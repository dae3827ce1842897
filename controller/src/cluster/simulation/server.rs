//! The controller's process: the real state machine, and what stands between it and the network.
//!
//! Owns its queue of commands and the answers it owes. Its end, planned or not, takes both with it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::FutureExt;
use tokio::sync::{
    oneshot::{self, error::TryRecvError},
    watch,
};
use weft_core::{membership::More, types::Revision};

use super::{
    Checked, Planted, Violation,
    client::Question,
    hold,
    link::Up,
    pump::End,
    world::{Event, World},
};
use crate::{
    clock::Clock,
    cluster::{Command, ConnectAsk, JoinAsk, NodeIdentity, Refusal, Session, actor::Actor},
    pki::JoinToken,
    store::StoreError,
};

/// The controller's own address.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));
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

/// The process.
pub(super) struct Server {
    pub(super) run: u64,
    pub(super) actor: Actor,
    /// It is of version 0.1.
    pub(super) is_old: bool,
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) next_session: u64,
    queue: VecDeque<Command>,
    owed: Vec<Owed>,
    is_busy: bool,
    publish_due: Option<u64>,
    published: u64,
}

impl World {
    /// Starts the controller: a new term.
    pub(super) fn server_start(&mut self) -> Checked {
        if self.server.is_some() {
            return Ok(());
        }
        self.disk.reopen();
        let (store, clock) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock));
        let version = watch::channel(0).0;
        let is_old = self.random.chance(15);
        let mut rules = self.rules.clone();
        if is_old {
            rules.settings.more = More::default();
        }
        let begun = Actor::begin(store, rules, Arc::default(), clock, version);
        let actor = match begun.now_or_never().expect("the store answers at once") {
            Ok(actor) => actor,
            Err(error) => {
                self.say(|_| format!("the controller does not start: {error}"));
                self.soon(100, 3000, Event::ServerStart);
                return Ok(());
            }
        };
        self.server_runs += 1;
        self.counts.terms += 1;
        let run = self.server_runs;
        self.say(|_| format!("the controller starts term {}", actor.epoch));
        self.past.term_begins(actor.epoch, self.now)?;
        self.server = Some(Server {
            run,
            actor,
            is_old,
            ends: BTreeMap::new(),
            next_session: 0,
            queue: VecDeque::new(),
            owed: Vec::new(),
            is_busy: false,
            publish_due: None,
            published: 0,
        });
        self.after(0, Event::ServerTick(run));
        self.server_stepped(Ok(()))
    }

    /// Ends the controller without a word.
    pub(super) fn server_crash(&mut self) {
        let Some(server) = self.server.take() else { return };
        self.say(|_| "the controller stops".to_owned());
        for link in server.ends.into_keys() {
            self.orphan(link);
        }
        // What was on its way to it is lost with it.
        let open: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.server_open).map(|(number, _)| *number).collect();
        for link in open {
            self.orphan(link);
        }
        self.disk.fail_next(None);
        self.soon(0, 15_000, Event::ServerStart);
    }

    pub(super) fn command(&mut self, command: Command) {
        let Some(server) = &mut self.server else { return };
        server.queue.push_back(command);
        self.wake_server();
    }

    /// Carries out some of what waits, together.
    pub(super) fn server_work(&mut self) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        server.is_busy = false;
        if server.queue.is_empty() {
            return Ok(());
        }
        let count = self.random.below(server.queue.len()) + 1;
        let commands: Vec<Command> = server.queue.drain(..count).collect();
        let outcome = server.actor.carry_out(commands.into_iter()).now_or_never().expect("the store answers at once");
        self.server_stepped(outcome)?;
        self.wake_server();
        Ok(())
    }

    fn wake_server(&mut self) {
        let Some(server) = &mut self.server else { return };
        if !server.queue.is_empty() && !std::mem::replace(&mut server.is_busy, true) {
            self.soon(0, 10, Event::ServerWork);
        }
    }

    pub(super) fn server_publish(&mut self) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        if server.publish_due.take_if(|due| *due <= self.now).is_none() {
            return Ok(());
        }
        server.actor.publish();
        self.server_stepped(Ok(()))
    }

    pub(super) fn server_tick(&mut self, run: u64) -> Checked {
        let Some(server) = self.server.as_mut().filter(|server| server.run == run) else { return Ok(()) };
        let connected = server.actor.sessions.len();
        let outcome = server.actor.tick().now_or_never().expect("the store answers at once");
        self.counts.overdue += (connected - server.actor.sessions.len()) as u64;
        self.server_stepped(outcome)?;
        self.tidy_links();
        self.soon(250, 1000, Event::ServerTick(run));
        self.look_for_agreement();
        Ok(())
    }

    /// After each step: look whether all is well, then let answers and announcements go their way.
    fn server_stepped(&mut self, outcome: Result<(), StoreError>) -> Checked {
        self.disk.checked()?;
        if let Err(error) = outcome {
            self.say(|_| format!("the controller fails: {error}"));
            // Written all the same, perhaps: the next term finds it so.
            self.check_release()?;
            self.server_crash();
            return Ok(());
        }
        self.check_server()?;
        self.answer()?;
        self.close_ends();
        let Some(server) = &mut self.server else { return Ok(()) };
        let published = server.actor.fanout.published();
        if published != server.published {
            server.published = published;
            let links: Vec<u64> = server.ends.keys().copied().collect();
            links.into_iter().for_each(|link| self.soon(0, 10, Event::Pump(link)));
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        let due = server.actor.publish_at.map(|at| self.clock.elapsed_at(at).max(self.now));
        if due.is_some() && due != server.publish_due {
            server.publish_due = due;
            self.after(due.map_or(0, |due| due - self.now) + 1, Event::ServerPublish);
            self.server.as_mut().expect("it was there just now").publish_due = due.map(|due| due + 1);
        }
        Ok(())
    }

    /// Hands on what the cluster has answered.
    fn answer(&mut self) -> Checked {
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
                    let ends_unix = self.clock.unix_seconds() + LIFETIME;
                    let identity = answer.map(|incarnation| NodeIdentity { incarnation, ends_unix, ..identity });
                    self.send_answer(request, identity);
                }
            },
            Owed::Renew(request, identity, mut reply) => match answered(&mut reply) {
                None => return Ok(Some(Owed::Renew(request, identity, reply))),
                Some(answer) => {
                    let ends_unix = self.clock.unix_seconds() + LIFETIME;
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

    /// A request without a stream has arrived.
    pub(super) fn server_is_asked(&mut self, number: u64) {
        let Some(request) = self.requests.get(&number) else { return };
        let node = self.agents[request.agent].name.clone();
        match request.question.clone() {
            Question::Join(token, key_hash) => {
                let (reply, answer) = oneshot::channel();
                let identity = NodeIdentity { name: node.clone(), incarnation: 0, ends_unix: 0 };
                self.command(Command::Join(JoinAsk { node, token, key_hash }, reply));
                self.owe(Owed::Join(number, identity, answer));
            }
            Question::Renew(identity) => {
                let (reply, answer) = oneshot::channel();
                self.command(Command::Renewing(identity.clone(), reply));
                self.owe(Owed::Renew(number, identity, answer));
            }
        }
    }

    /// A message of a stream has arrived.
    pub(super) fn server_hears(&mut self, link: u64, message: Up) {
        let (Some(server), Some(at)) = (&mut self.server, self.links.get(&link)) else { return };
        match message {
            Up::Hello { identity, held, facts } => {
                let id = server.next_session;
                server.next_session += 1;
                server.ends.insert(link, End::new(identity.name.clone(), held));
                let (reply, answer) = oneshot::channel();
                let ask = ConnectAsk { identity, source: at.source, own: OWN, facts: Some(facts) };
                self.command(Command::Connect(ask, id, reply));
                self.owe(Owed::Connect(link, answer));
            }
            Up::Report(report) => {
                let source = at.source;
                let Some(end) = server.ends.get_mut(&link) else { return };
                match &end.session {
                    Some(session) => {
                        let command = Command::Report(end.node.clone(), session.id, report, source);
                        self.command(command);
                    }
                    None => end.waiting.push_back(report),
                }
            }
        }
    }

    pub(super) fn owe(&mut self, owed: Owed) {
        if let Some(server) = &mut self.server {
            server.owed.push(owed);
        }
    }

    /// True while nothing waits to be carried out.
    pub(super) fn server_is_idle(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.queue.is_empty() && server.owed.is_empty())
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

impl From<prost::DecodeError> for Violation {
    fn from(error: prost::DecodeError) -> Self {
        Self(format!("a frame of the controller cannot be read: {error}"))
    }
}
