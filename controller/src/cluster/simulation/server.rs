//! The controller's process: the real state machine, and what stands between it and the network.
//!
//! Owns its queue of commands and the answers it owes. Its end, planned or not, takes both with it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::FutureExt;
use tokio::sync::{oneshot, watch};
use weft_core::{
    membership::{Member, More},
    standing::Facts,
};

use super::{
    Checked, Planted, Violation,
    answers::Owed,
    bystanders::Acted,
    client::Question,
    link::Up,
    patience::{Late, Patience},
    pump::End,
    world::{Event, World},
};
use crate::{
    cluster::{Command, ConnectAsk, JoinAsk, NodeIdentity, actor::Actor, pace::Pace},
    store::StoreError,
};

/// The controller's own address.
pub(super) const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// The process.
pub(super) struct Server {
    pub(super) run: u64,
    pub(super) actor: Actor,
    /// It is of version 0.1.
    pub(super) is_old: bool,
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) next_session: u64,
    pub(super) queue: VecDeque<Command>,
    pub(super) owed: Vec<Owed>,
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
        self.forget_bystanders();
        self.patience = Patience::default();
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
        self.server_stepped(Ok(()), &Acted::default())
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
        let stalled = self.stalled_for();
        self.soon(stalled, stalled + 15_000, Event::ServerStart);
    }

    /// How long it will still wait for its disk.
    pub(super) fn stalled_for(&self) -> u64 {
        self.clock.elapsed().saturating_sub(self.now)
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
        self.carry_out(count)?;
        self.wake_server();
        Ok(())
    }

    fn carry_out(&mut self, count: usize) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        let mut commands: Vec<Command> = server.queue.drain(..count).collect();
        let acted = Acted::by(&commands);
        plant(self.planted, &mut server.actor, &mut commands);
        let outcome = server.actor.carry_out(commands.into_iter()).now_or_never().expect("the store answers at once");
        self.server_stepped(outcome, &acted)
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
        self.server_stepped(Ok(()), &Acted::default())
    }

    /// What agents have said by now counts before anybody is judged by it, as in the real task.
    pub(super) fn server_tick(&mut self, run: u64) -> Checked {
        let is_it = |server: &Server| server.run == run;
        let waiting = self.server.as_ref().filter(|server| is_it(server)).map_or(0, |server| server.queue.len());
        if waiting > 0 && self.planted != Planted::StallCounts {
            self.carry_out(waiting)?;
        }
        let late = self.late();
        let Some(server) = self.server.as_mut().filter(|server| is_it(server)) else { return Ok(()) };
        let untaken = server.actor.sessions.iter().filter(|(_, live)| live.untaken.is_some());
        let acted = Acted { spoke: untaken.map(|(name, _)| name.clone()).collect(), late: Late::names(&late) };
        self.counts.paced += acted.spoke.len() as u64;
        self.counts.overdue += late.len() as u64;
        self.check_late(&late)?;
        let Some(server) = &mut self.server else { return Ok(()) };
        let outcome = server.actor.tick().now_or_never().expect("the store answers at once");
        self.server_stepped(outcome, &acted)?;
        self.check_standings()?;
        self.tidy_links();
        self.soon(250, 1000, Event::ServerTick(run));
        self.look_for_agreement();
        Ok(())
    }

    /// After each step: look whether all is well, then let answers and announcements go their way, at once or once the disk
    /// has answered.
    fn server_stepped(&mut self, outcome: Result<(), StoreError>, acted: &Acted) -> Checked {
        self.disk.checked()?;
        if let Err(error) = outcome {
            self.say(|_| format!("the controller fails: {error}"));
            // Written all the same, perhaps: the next term finds it so.
            self.check_release()?;
            self.server_crash();
            return Ok(());
        }
        self.check_server()?;
        self.check_bystanders(acted)?;
        self.note_times();
        self.note_stall();
        match self.stalled_for() {
            0 => self.server_goes_on(),
            wait => {
                self.after(wait, Event::ServerGoesOn);
                Ok(())
            }
        }
    }

    /// The disk has answered.
    pub(super) fn server_goes_on(&mut self) -> Checked {
        self.answer()?;
        self.close_ends();
        let Some(server) = &mut self.server else { return Ok(()) };
        let published = server.actor.publisher.fanout().published();
        if published != server.published {
            server.published = published;
            let links: Vec<u64> = server.ends.keys().copied().collect();
            links.into_iter().for_each(|link| self.soon(0, 10, Event::Pump(link)));
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        let due = server.actor.publisher.due().map(|at| self.clock.elapsed_at(at).max(self.now));
        if due.is_some() && due != server.publish_due {
            server.publish_due = due;
            self.after(due.map_or(0, |due| due - self.now) + 1, Event::ServerPublish);
            self.server.as_mut().expect("it was there just now").publish_due = due.map(|due| due + 1);
        }
        Ok(())
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

    /// True while nothing waits to be carried out.
    pub(super) fn server_is_idle(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.queue.is_empty() && server.owed.is_empty())
    }
}

/// The planted bugs of the controller: it believes what is claimed as if the stream came from there and nobody else had proved
/// it, never minds how often a node changes its facts, or forgets what has to wait.
fn plant(planted: Planted, actor: &mut Actor, commands: &mut [Command]) {
    match planted {
        Planted::UnprovenBeatsProven => {
            let names: Vec<_> = actor.registry.nodes().keys().cloned().collect();
            names.iter().for_each(|name| actor.registry.underlays().forget(name));
            for command in commands {
                let (facts, source) = match command {
                    Command::Report(_, _, report, source) => (&report.facts, source),
                    Command::Connect(ask, ..) => (&ask.facts, &mut ask.source),
                    _ => continue,
                };
                let claimed = facts.as_ref().and_then(|facts| facts.underlay.v4);
                *source = claimed.map_or(*source, |claimed| claimed.address());
            }
        }
        Planted::ForgottenRouters => {
            let members: Vec<Member> = actor.registry.announced().collect();
            for Member { name, underlay, underlay_mtu, .. } in
                members.into_iter().filter(|one| one.underlay.v4.is_some())
            {
                let source = underlay.v4.map_or(OWN, |underlay| underlay.address());
                let (gateways, agent_version) = (Vec::new(), String::new());
                let facts = Facts { underlay, underlay_mtu, gateways, agent_version, generation: 0 };
                actor.registry.underlays().note(&name, &facts, source);
            }
        }
        Planted::NoPace => actor.pace = Pace::default(),
        Planted::ForgottenFacts => drop(actor.sessions.take_untaken(usize::MAX, |_| true)),
        _ => {}
    }
}

impl From<prost::DecodeError> for Violation {
    fn from(error: prost::DecodeError) -> Self {
        Self(format!("a frame of the controller cannot be read: {error}"))
    }
}
