//! What goes wrong, and what people do meanwhile.

use std::time::Duration;

use weft_core::{membership::More, settings::Mode, types::UnderlayAddress};

use super::{
    agent::{self, Trouble},
    answers::Owed,
    disk::Fault,
    world::{Event, World, pool_v4, pool_v6},
};
use crate::{
    clock::Clock,
    cluster::Command,
    pki::JoinToken,
    store::{Failure, TokenRecord},
};

/// What an agent was hindered from is done so long after at most, in milliseconds: the waits of slow agents and of streams
/// that nothing comes through.
const LATE_MS: u64 = 45_000;

impl World {
    /// One thing, and soon the next.
    pub(super) fn chaos(&mut self) {
        if self.is_healing {
            return;
        }
        self.soon(10, 3000, Event::Chaos);
        let number = self.random.below(self.agents.len());
        match self.random.between(0, 109) {
            0..20 => self.make_token(number),
            20..30 => self.delete(number),
            30..37 => self.agent_stop(number),
            37..40 => self.reboot(number),
            40..44 => self.lose_state(number),
            44..48 => self.restore_state(number),
            48..56 => self.part(number),
            56..63 => self.cut_somewhere(),
            63..68 => self.slow(number),
            68..72 => self.break_kernel(number),
            72..80 => self.move_address(number),
            80..84 => self.server_crash(),
            84..86 => self.change_settings(),
            86..92 => self.spoil_store(),
            92..95 => self.jump(),
            95..97 => self.clone_machine(number),
            97..100 => self.change_mtu(number),
            100..103 => self.stall_store(),
            103..107 => self.stall_agent(number),
            _ => self.renew(number),
        }
    }

    /// The operator makes a token for a node, and leaves it there.
    pub(super) fn make_token(&mut self, number: usize) {
        if self.server.is_none() {
            return;
        }
        let (id, secret) = (self.random.next(), self.random.next());
        let text = format!("weft1.{id:016x}.{secret:064x}.{:064x}", 0);
        let token: JoinToken = text.parse().expect("the form of a token");
        let node = self.agents[number].name.clone();
        self.say(|_| format!("a token is made for {node}"));
        let expires_unix = self.clock.unix().seconds() + 600;
        let record = TokenRecord { id: token.id, secret_hash: token.secret_hash(), node, expires_unix, bound: None };
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.command(Command::AddToken(record, reply));
        self.owe(Owed::Token(number, token, answer));
    }

    pub(super) fn delete(&mut self, number: usize) {
        let name = self.agents[number].name.clone();
        self.say(|_| format!("{name} is deleted"));
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.command(Command::DeleteNode(name, reply));
        self.owe(Owed::Delete(answer));
    }

    fn reboot(&mut self, number: usize) {
        self.agent_stop(number);
        self.agents[number].kernel.clear();
    }

    fn lose_state(&mut self, number: usize) {
        self.agent_stop(number);
        self.say(|world| format!("{} loses its disk", world.agents[number].name));
        let key = agent::key(&mut self.random);
        self.agents[number].state = agent::State { key, identity: None, used_token: None, last_good: None };
    }

    /// An old copy of the disk comes back: with the identity, the token and the membership of then.
    fn restore_state(&mut self, number: usize) {
        let count = self.agents[number].backups.len();
        let now = self.agents[number].state.clone();
        self.agents[number].backups.push(now);
        if count > 0 {
            let old = self.random.below(count);
            self.agent_stop(number);
            self.say(|world| format!("{} has an older disk", world.agents[number].name));
            self.agents[number].state = self.agents[number].backups[old].clone();
        }
    }

    fn part(&mut self, number: usize) {
        let until = self.now + [500, 5000, 60_000][self.random.below(3)];
        self.say(|world| format!("{} is cut off until {until} ms", world.agents[number].name));
        self.agents[number].parted_until = until;
        self.excuse(number, until);
        // Streams outlive a short partition; of a long one each end finds out by itself.
        if self.random.chance(60) {
            let links: Vec<u64> =
                self.links.iter().filter(|(_, link)| link.agent == number).map(|(id, _)| *id).collect();
            links.into_iter().for_each(|link| self.cut(link));
        }
    }

    fn cut_somewhere(&mut self) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        if !links.is_empty() {
            let link = links[self.random.below(links.len())];
            self.say(|_| format!("stream {link} is cut"));
            self.cut(link);
        }
    }

    /// What an agent does late after this is its own fault.
    fn excuse(&mut self, number: usize, until: u64) {
        let excused = &mut self.agents[number].excused_until;
        *excused = (*excused).max(until + LATE_MS);
    }

    fn slow(&mut self, number: usize) {
        let until = self.now + self.random.between(1000, 60_000);
        self.say(|world| format!("{} is slow until {until} ms", world.agents[number].name));
        self.agents[number].slow_until = until;
        self.excuse(number, until);
    }

    fn break_kernel(&mut self, number: usize) {
        let until = self.now + self.random.between(1000, 60_000);
        self.say(|world| format!("the kernel of {} takes nothing until {until} ms", world.agents[number].name));
        self.agents[number].broken_until = until;
        self.excuse(number, until);
    }

    /// A node gets another address, maybe one that another node has or had.
    fn move_address(&mut self, number: usize) {
        let other = self.random.between(0, self.agents.len() as u64);
        let address = agent::address(other, &mut self.random);
        self.counts.moved += 1;
        self.set_address(number, address);
    }

    /// The agent finds its address changed: streams mostly end with the old one.
    pub(super) fn set_address(&mut self, number: usize, address: UnderlayAddress) {
        self.agents[number].address = address;
        self.say(|world| format!("{} has address {address} now", world.agents[number].name));
        if self.random.chance(30) {
            return self.tell_facts(number);
        }
        let links: Vec<u64> = self.links.iter().filter(|(_, link)| link.agent == number).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.cut(link));
        self.tell_facts(number);
    }

    fn change_mtu(&mut self, number: usize) {
        self.agents[number].mtu = [1400, 1500, 9000][self.random.below(3)];
        self.say(|world| format!("the link of {} has another MTU", world.agents[number].name));
        self.tell_facts(number);
    }

    fn clone_machine(&mut self, number: usize) {
        if self.agents.len() > self.nodes {
            return;
        }
        self.say(|world| format!("{} is cloned", world.agents[number].name));
        let twin = self.agents[number].twin(&mut self.random);
        self.agents.push(twin);
        let twin = self.agents.len() - 1;
        self.soon(0, 1000, Event::AgentStart(twin));
    }

    /// The operator changes the configuration, which takes a restart.
    fn change_settings(&mut self) {
        self.server_crash();
        let rules = &mut self.rules;
        match self.random.between(0, 5) {
            4 => {
                rules.settings.more =
                    [More::default(), More::new([8, 1]), More::new([8, 2])][self.random.below(3)].clone();
            }
            5 => rules.force_settings = !rules.force_settings,
            0 => rules.settings.mode = Mode::Always,
            1 => rules.settings.mode = Mode::CrossSubnet,
            2 => {
                let more = if self.random.chance(30) { pool_v6() } else { pool_v4(3) };
                if rules.pools.iter().all(|rule| rule.pool != more) {
                    rules.pools.push(more.into());
                    rules.settings.pools.push(more.cidr());
                    rules.settings.pools.sort_unstable();
                }
            }
            _ => rules.reconnect_grace = Duration::from_secs(self.random.between(0, 15)),
        }
        self.say(|world| format!("the settings are {:?}", world.rules.settings));
    }

    fn spoil_store(&mut self) {
        let faults = [
            Fault::Store(Failure::Refused),
            Fault::Store(Failure::CrashBefore),
            Fault::Store(Failure::CrashAfter),
            Fault::Unconfirmed,
        ];
        let fault = faults[self.random.below(faults.len())];
        self.say(|_| format!("the next write goes wrong: {fault:?}"));
        self.disk.fail_next(Some(fault));
    }

    /// The controller's disk takes its time for the next write, maybe more than agents have to acknowledge.
    fn stall_store(&mut self) {
        let ms = self.random.between(1000, 90_000);
        self.say(|_| format!("the next write takes {ms} ms"));
        self.disk.stall_next(ms);
    }

    /// An agent's disk takes nothing for a while, or refuses.
    fn stall_agent(&mut self, number: usize) {
        let until = self.now + self.random.between(1000, 90_000);
        let is_failing = self.random.chance(50);
        self.say(|world| format!("the disk of {} takes nothing until {until} ms", world.agents[number].name));
        self.agents[number].disk = Trouble { until, is_failing };
    }

    /// The controller's wall clock jumps by an hour at most; certificates last longer, tokens do not.
    fn jump(&mut self) {
        let far = i64::try_from(self.random.between(0, 7_200_000)).expect("two hours") - 3_600_000;
        self.say(|_| format!("the controller's clock jumps by {far} ms"));
        self.clock.jump(far);
    }
}
