//! What the parts of the agent tell each other while it runs.
//!
//! Owns the channels: each has one end that is written, which exactly one part takes, and readers for whoever wants to know. Must
//! never know what a part does with them.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{mpsc, watch};
use weft_core::standing::Facts;

use crate::{
    controller::{ConnectionStatus, Held, Order, Standing, Update},
    disk_trouble::DiskTrouble,
    engine::{self, Handle, Request, Status},
    pods::NodeState,
    probe::{Findings, Prober, Targets},
};

/// Messages of the controller that may wait for the engine.
const UPDATES: usize = 16;

/// The readers.
pub(super) struct Wires {
    /// Asks the engine.
    pub(super) engine: Handle,
    pub(super) status: watch::Receiver<Status>,
    pub(super) held: watch::Receiver<Held>,
    pub(super) facts: watch::Receiver<Option<Facts>>,
    /// How the node stands for the engine.
    pub(super) of_engine: watch::Receiver<Standing>,
    /// How it stands with everything.
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) targets: watch::Receiver<Arc<Targets>>,
    pub(super) findings: Findings,
    pub(super) connection: watch::Receiver<ConnectionStatus>,
    pub(super) order: watch::Receiver<Order>,
    pub(super) cleaned_up: watch::Receiver<bool>,
    /// What cannot be written to disk; whoever writes says so here.
    pub(super) disk_trouble: DiskTrouble,
}

/// The ends that are written, and what only one part reads.
pub(super) struct Ends {
    pub(super) outputs: engine::Outputs,
    pub(super) inputs: engine::Inputs,
    pub(super) prober: Prober,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) connection: watch::Sender<ConnectionStatus>,
    pub(super) controller: watch::Sender<Option<IpAddr>>,
    pub(super) order: watch::Sender<Order>,
    pub(super) cleaned_up: watch::Sender<bool>,
}

/// All of them; nobody has said anything yet.
pub(super) fn wires() -> (Wires, Ends) {
    let (engine, requests): (Handle, mpsc::Receiver<Request>) = Handle::new();
    let (updates_in, updates) = mpsc::channel(UPDATES);
    let (held_in, held) = watch::channel(Held::default());
    let (facts_in, facts) = watch::channel(None);
    let (of_engine_in, of_engine) = watch::channel(Standing::default());
    let (standing_in, standing) = watch::channel(Standing::default());
    let (status_in, status) = watch::channel(Status::default());
    let (targets_in, targets) = watch::channel(Arc::new(Targets::default()));
    let (connection_in, connection) = watch::channel(ConnectionStatus::default());
    let (controller_in, controller) = watch::channel(None);
    let (order_in, order) = watch::channel(Order::default());
    let (cleaned_in, cleaned_up) = watch::channel(false);
    let (prober, findings) = Prober::new(targets.clone());
    let ends = Ends {
        outputs: engine::Outputs {
            held: held_in,
            facts: facts_in,
            standing: of_engine_in,
            status: status_in,
            targets: targets_in,
        },
        inputs: engine::Inputs { updates, requests, controller, findings: findings.clone() },
        prober,
        updates: updates_in,
        standing: standing_in,
        connection: connection_in,
        controller: controller_in,
        order: order_in,
        cleaned_up: cleaned_in,
    };
    let wires = Wires {
        engine,
        status,
        held,
        facts,
        of_engine,
        standing,
        targets,
        findings,
        connection,
        order,
        cleaned_up,
        disk_trouble: DiskTrouble::default(),
    };
    (wires, ends)
}

/// What pods need to know of the node, kept current.
pub(super) fn node_state(mut status: watch::Receiver<Status>) -> watch::Receiver<NodeState> {
    let read = |status: &Status| NodeState {
        pod_cidrs: status.pod_cidrs,
        pod_mtu: status.pod_mtu,
        ready: match (&status.problem, status.pod_mtu) {
            (_, Some(_)) if status.ready => Ok(()),
            (Some(problem), _) => Err(problem.message.clone()),
            _ => Err("the agent is starting".to_owned()),
        },
    };
    let (sender, receiver) = watch::channel(read(&status.borrow()));
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let state = read(&status.borrow_and_update());
            set(&sender, state);
        }
    });
    receiver
}

/// The controller's address names the underlay.
pub(super) async fn tell_address(
    mut connection: watch::Receiver<ConnectionStatus>,
    sender: watch::Sender<Option<IpAddr>>,
) {
    while connection.changed().await.is_ok() {
        let address = connection.borrow_and_update().address;
        set(&sender, address);
    }
}

/// Tells a value, unless it was told already.
fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|told| {
        let changed = *told != value;
        *told = value;
        changed
    });
}
