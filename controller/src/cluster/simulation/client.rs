//! The agent's client: it joins, keeps one stream, and says how the node stands.
//!
//! Owns the order of the real client's steps, its waits, and requests that get lost or come twice.

use tonic::Code;
use weft_core::{membership::Digests, standing::Health, types::Revision};
use weft_proto::{
    convert::{self, SnapshotBuilder},
    v1::{self, watch_response::Message},
};

use super::{
    Planted,
    agent::Update,
    link::{Down, Up},
    versions,
    world::{Event, World},
};
use crate::{
    cluster::{NodeIdentity, Refusal, Report},
    pki::JoinToken,
};

/// The longest wait between two tries, in milliseconds.
const LONGEST_WAIT: u64 = 5000;

/// What the client is at.
#[derive(Debug, Default)]
enum Doing {
    #[default]
    Waiting,
    Asking(u64),
    Watching(u64),
}

/// The client of one run.
#[derive(Debug, Default)]
pub(super) struct Client {
    doing: Doing,
    wait: u64,
    /// The timer that counts: the one set last.
    timer: u64,
    /// The open stream was answered.
    is_answered: bool,
    builder: SnapshotBuilder,
    /// The life that the open stream is for.
    life: u64,
    /// What the Hello of the open stream said.
    hello: (Option<Revision>, Option<Digests>),
    told: (Option<Revision>, Health),
}

impl Client {
    pub(super) const fn link(&self) -> Option<u64> {
        match self.doing {
            Doing::Watching(link) => Some(link),
            Doing::Waiting | Doing::Asking(_) => None,
        }
    }
}

/// What a request without a stream asks.
#[derive(Debug, Clone)]
pub(super) enum Question {
    Join(JoinToken, [u8; 32]),
    Renew(NodeIdentity),
}

/// A request without a stream.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) agent: usize,
    pub(super) run: u64,
    pub(super) question: Question,
    pub(super) answer: Option<Result<NodeIdentity, Refusal>>,
}

impl World {
    /// The client's next try.
    pub(super) fn client(&mut self, number: usize, timer: u64) {
        let unix_seconds = self.agent_unix_seconds();
        let agent = &mut self.agents[number];
        let (has_new_token, identity) = (agent.has_new_token(), agent.state.identity.clone());
        let Some(process) = agent.process.as_mut().filter(|process| process.client.timer == timer) else { return };
        match process.client.doing {
            Doing::Watching(_) => return,
            // No answer in time: whatever becomes of that one, another is asked.
            Doing::Waiting | Doing::Asking(_) => process.client.doing = Doing::Waiting,
        }
        match identity {
            Some(identity) if identity.ends_unix > unix_seconds => self.watch(number, identity),
            Some(_) if !has_new_token => self.wait_and_try(number),
            _ => self.join(number),
        }
    }

    fn watch(&mut self, number: usize, identity: NodeIdentity) {
        let run = self.agents[number].run;
        let link = self.open_link(number, run);
        let (facts, is_old) = (self.agents[number].facts(), self.agents[number].is_old);
        let is_liar = self.agents[number].lies.is_some();
        let lies = !self.is_healing && self.random.chance(if is_liar { 30 } else { 3 });
        let false_holding = is_liar.then(|| self.newest()).flatten().filter(|_| lies && self.random.chance(50));
        let health = self.health(number);
        let Some(process) = &mut self.agents[number].process else { return };
        let client = &mut process.client;
        client.doing = Doing::Watching(link);
        client.is_answered = false;
        client.life = identity.incarnation;
        client.builder = SnapshotBuilder::default();
        client.hello = false_holding.map_or(process.held, |(newest, digests)| (Some(newest), Some(digests)));
        client.told = (process.applied, health.clone());
        let digests = if lies { Some(Digests::default()) } else { process.held.1 };
        let (revision, digests) = match false_holding {
            Some((newest, digests)) => (Some(newest), Some(digests)),
            None => (process.held.0, digests),
        };
        let held = (revision, digests.map(|digests| versions::told(digests, is_old)));
        let first = Report { applied: process.applied, health: Some(health), ..Report::default() };
        self.counts.false_holdings += u64::from(false_holding.is_some());
        self.send_up(link, Up::Hello { identity, held, facts });
        self.send_up(link, Up::Report(first));
    }

    fn join(&mut self, number: usize) {
        let agent = &self.agents[number];
        match agent.token.clone() {
            Some(token) => self.ask(number, Question::Join(token, agent.state.key)),
            None => self.wait_and_try(number),
        }
    }

    fn ask(&mut self, number: usize, question: Question) {
        let run = self.agents[number].run;
        let request = self.number();
        self.requests.insert(request, Request { agent: number, run, question, answer: None });
        if let Some(process) = &mut self.agents[number].process {
            process.client.doing = Doing::Asking(request);
        }
        // One in ten is late, and one in ten of the rest never arrives; the client does not wait for either.
        match self.random.between(0, 9) {
            0 => self.soon(2000, 20_000, Event::Ask(request)),
            1 if !self.is_healing => {}
            _ => self.soon(0, 50, Event::Ask(request)),
        }
        self.try_again(number, 5000, 6000);
    }

    /// A certificate that is due for renewal.
    pub(super) fn renew(&mut self, number: usize) {
        let Some(link) = self.link_of(number) else { return };
        let Some(identity) = self.agents[number].state.identity.clone() else { return };
        self.close_by_agent(link);
        self.ask(number, Question::Renew(identity));
    }

    pub(super) fn request_arrives(&mut self, number: u64) {
        let Some(request) = self.requests.get(&number) else { return };
        let healed = self.agents[request.agent].parted_until;
        if healed > self.now {
            self.soon(healed - self.now, healed - self.now + 1000, Event::Ask(number));
        } else if self.server.is_some() {
            self.server_is_asked(number);
        }
    }

    pub(super) fn answer_arrives(&mut self, number: u64) {
        let Some(request) = self.requests.remove(&number) else { return };
        let (agent, Some(answer)) = (request.agent, request.answer) else { return };
        let Some(process) = self.agents[agent].running(request.run) else { return };
        if !matches!(process.client.doing, Doing::Asking(asked) if asked == number) {
            return;
        }
        process.client.doing = Doing::Waiting;
        match answer {
            Ok(identity) => {
                self.say(|_| format!("{} has life {} now", identity.name, identity.incarnation));
                let state = &mut self.agents[agent].state;
                state.identity = Some(identity);
                if let Question::Join(token, _) = request.question {
                    state.used_token = Some(token.id);
                }
                self.try_again(agent, 0, 0);
            }
            Err(refusal) => {
                self.say(|world| format!("{} is refused: {refusal}", world.agents[agent].name));
                self.wait_and_try(agent);
            }
        }
    }

    fn wait_and_try(&mut self, number: usize) {
        let Some(process) = &mut self.agents[number].process else { return };
        process.client.doing = Doing::Waiting;
        let wait = process.client.wait.max(200);
        process.client.wait = (wait * 2).min(LONGEST_WAIT);
        self.try_again(number, wait / 2, wait);
    }

    /// The client wakes again, unless something else is begun before.
    pub(super) fn try_again(&mut self, number: usize, least: u64, most: u64) {
        let timer = self.number();
        let Some(process) = &mut self.agents[number].process else { return };
        process.client.timer = timer;
        self.soon(least, most, Event::Client(number, timer));
    }

    /// A message of the open stream.
    pub(super) fn agent_hears(&mut self, number: usize, link: u64, message: Down) {
        let Some(process) = &mut self.agents[number].process else { return };
        if process.client.link() != Some(link) {
            return;
        }
        match message {
            Down::Message(message) => {
                process.client.is_answered = true;
                self.receive(number, message);
            }
            Down::End(code) => self.stream_ended(number, link, Some(code)),
        }
    }

    fn receive(&mut self, number: usize, mut message: v1::WatchResponse) {
        if self.agents[number].is_old {
            versions::to_0_1(&mut message);
        }
        let Some(process) = &mut self.agents[number].process else { return };
        let client = &mut process.client;
        let revision: Revision = message.revision.map(Into::into).expect("frames of ours have a revision");
        let update = match message.message.expect("frames of ours have a message") {
            Message::Current(current) => {
                let found = client.hello.1.expect("found current, so it was told");
                Update::Current(revision, found, !current.more_digest.is_empty())
            }
            Message::Delta(delta) => Update::Delta(convert::delta(revision, delta).expect("our own delta")),
            Message::SnapshotChunk(chunk) => {
                let partial = (self.planted == Planted::IncompleteSnapshot).then(|| chunk.members.clone());
                client.builder.chunk(revision, chunk).expect("our own chunk");
                if let Some(members) = partial {
                    self.take_for_whole(number, revision, members);
                }
                return;
            }
            Message::SnapshotEnd(end) => {
                let told = convert::told(&end.digest, &end.more_digest).expect("our own digests");
                let whole = std::mem::take(&mut client.builder).end(revision, end).expect("our own snapshot");
                Update::Snapshot(whole, told.expect("our own digests"))
            }
            Message::CleanUp(_) => unreachable!("nobody orders a clean-up here"),
        };
        process.updates.push_back((client.life, update));
        self.acknowledge_early(number, revision);
        self.wake_engine(number);
    }

    /// The planted bug: what has come so far counts.
    fn take_for_whole(&mut self, number: usize, revision: Revision, members: Vec<v1::Member>) {
        let Some(process) = &mut self.agents[number].process else { return };
        let Some(settings) = process.view.settings().cloned() else { return };
        let members = members.into_iter().map(|member| std::sync::Arc::new(member.try_into().expect("our own member")));
        let snapshot = weft_core::membership::Snapshot { revision, settings, members: members.collect() };
        let told = snapshot.digests().into();
        process.updates.push_back((process.client.life, Update::Snapshot(snapshot, told)));
        self.wake_engine(number);
    }

    /// The agent finds its stream ended.
    pub(super) fn agent_notices(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (agent, run) = (link.agent, link.run);
        let was_open = std::mem::replace(&mut link.agent_open, false);
        if was_open && self.agents[agent].running(run).is_some_and(|process| process.client.link() == Some(number)) {
            self.stream_ended(agent, number, None);
        }
    }

    fn stream_ended(&mut self, number: usize, link: u64, code: Option<Code>) {
        if let Some(link) = self.links.get_mut(&link) {
            link.agent_open = false;
        }
        let has_new_token = self.agents[number].has_new_token();
        let Some(process) = &mut self.agents[number].process else { return };
        if std::mem::take(&mut process.client.is_answered) {
            process.client.wait = 0;
        }
        let is_refused = matches!(code, Some(Code::Unauthenticated | Code::PermissionDenied));
        self.say(|world| format!("the stream of {} ended: {code:?}", world.agents[number].name));
        if is_refused && has_new_token { self.join(number) } else { self.wait_and_try(number) }
    }

    /// The engine could not use an update: the stream begins anew.
    pub(super) fn client_resyncs(&mut self, number: usize) {
        let Some(link) = self.link_of(number) else { return };
        if let Some(process) = &mut self.agents[number].process {
            process.client.wait = 0;
        }
        self.close_by_agent(link);
        self.wait_and_try(number);
    }

    /// Reports what is new about how the node stands.
    pub(super) fn tell(&mut self, number: usize) {
        let health = self.health(number);
        let Some(process) = &mut self.agents[number].process else { return };
        let Some(link) = process.client.link() else { return };
        let now = (process.applied, health);
        let told = std::mem::replace(&mut process.client.told, now.clone());
        if now != told {
            let (applied, health) = (now.0.filter(|_| now.0 != told.0), Some(now.1).filter(|now| *now != told.1));
            self.send_up(link, Up::Report(Report { applied, health, ..Report::default() }));
        }
    }

    /// Reports facts that changed.
    pub(super) fn tell_facts(&mut self, number: usize) {
        let Some(link) = self.link_of(number) else { return };
        let facts = Some(self.agents[number].facts());
        self.send_up(link, Up::Report(Report { facts, ..Report::default() }));
    }

    pub(super) fn link_of(&self, number: usize) -> Option<u64> {
        self.agents[number].process.as_ref().and_then(|process| process.client.link())
    }

    /// The agents' clocks do not jump; the controller's may be far from them.
    const fn agent_unix_seconds(&self) -> i64 {
        1_800_000_000 + (self.now / 1000) as i64
    }
}
