//! Foreign hands: what an administrator or another program does to one node, as requests.
//!
//! Owns how each kind of object is deleted and altered. Must never ask the agent: a hand knows the kernel only.

pub(crate) mod links;
pub(crate) mod objects;
pub(crate) mod settings;
pub(crate) mod tables;

use anyhow::{Context, Result};
use weft_e2e::lab::Namespace;

use crate::drift::{netlink::Request, picture::Eye};

/// One thing a hand does.
#[derive(Debug, Clone)]
pub(crate) enum Hand {
    /// Changes over rtnetlink, in one system call.
    Route(Vec<Request>),
    /// A transaction of nf_tables.
    Tables(Vec<Request>),
    /// A sysctl, by its path below /proc/sys/net.
    Setting(String, &'static str),
}

/// A row of the matrix.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What is done, for people.
    pub(crate) name: String,
    /// How it is done.
    pub(crate) hands: Vec<Hand>,
    /// True where the kernel tells nobody: only a look finds it.
    pub(crate) silent: bool,
    /// True where the agent, left to itself, would put things right between two steps: it is stopped meanwhile.
    pub(crate) stopped: bool,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, hand: Hand) -> Self {
        Self { name: name.into(), hands: vec![hand], silent: false, stopped: false }
    }

    /// The same while the agent is stopped.
    pub(crate) fn while_stopped(self) -> Self {
        Self { stopped: true, ..self }
    }

    /// Several at once, while the agent is stopped.
    pub(crate) fn all(name: impl Into<String>, rows: impl IntoIterator<Item = Self>) -> Self {
        let (mut hands, mut silent) = (Vec::new(), true);
        for row in rows {
            hands.extend(row.hands);
            silent &= row.silent;
        }
        Self { name: name.into(), hands, silent, stopped: true }
    }

    /// Does it; the kernel must take everything.
    pub(crate) fn apply(&self, net: &Namespace, eye: &Eye) -> Result<()> {
        self.hands.iter().try_for_each(|hand| hand.act(net, eye)).with_context(|| self.name.clone())
    }

    /// Does what is still possible, as several hands at once get into each other's way.
    pub(crate) fn try_apply(&self, net: &Namespace, eye: &Eye) {
        for hand in &self.hands {
            // What is gone already cannot be taken once more.
            let _ = hand.act(net, eye);
        }
    }
}

impl Hand {
    fn act(&self, net: &Namespace, eye: &Eye) -> Result<()> {
        match self {
            Self::Route(requests) => eye.route.ask(requests),
            Self::Tables(requests) => eye.tables.transact(requests),
            Self::Setting(path, value) => net.sysctl(path, value),
        }
    }
}
