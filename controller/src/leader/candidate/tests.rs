//! Terms that end in every way, with the real clock and a Lease in memory.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::{
    config::LeaseTimes,
    leader::{Lease as _, LeaseTrouble, MemoryLease},
};

const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(600),
    retry_period: Duration::from_millis(50),
};

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("no test panics while it holds this").push(what.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().expect("no test panics while it holds this").clone()
    }
}

/// A term that fails at once, or goes on for ever.
struct Short {
    diary: Diary,
    lease: MemoryLease,
    role: watch::Receiver<Role>,
    failure: Option<bool>,
    begun: Arc<Notify>,
}

impl Term for Short {
    async fn run(&mut self) -> Failure {
        self.diary.note("begun");
        self.begun.notify_one();
        match self.failure {
            Some(is_final) => Failure { error: anyhow::anyhow!("no luck"), is_final },
            None => std::future::pending().await,
        }
    }

    async fn stop(mut self) {
        let is_held = self.lease.read().await.is_ok_and(|seen| seen.holder.is_some());
        let said = self.role.borrow().readiness().expect_err("nobody leads here");
        self.diary.note(format!("stopped, held: {is_held}, {said}"));
    }
}

struct Scene {
    diary: Diary,
    lease: MemoryLease,
    role: watch::Sender<Role>,
    begun: Arc<Notify>,
}

impl Scene {
    fn new() -> Self {
        let (role, _) = watch::channel(Role::Starting("it begins".to_owned()));
        Self { diary: Diary::default(), lease: MemoryLease::default(), role, begun: Arc::default() }
    }

    /// Competes until `shutdown`; terms fail like this, if they do.
    async fn compete(&self, failure: Option<bool>, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let election = Election::new(Box::new(self.lease.clone()), "me", ([192, 0, 2, 7], 7887).into(), TIMES);
        let term = |_| Short {
            diary: self.diary.clone(),
            lease: self.lease.clone(),
            role: self.role.subscribe(),
            failure,
            begun: Arc::clone(&self.begun),
        };
        let competed = Candidate::new(election, self.role.clone(), TIMES.retry_period);
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, competed.compete(term, std::pin::pin!(shutdown))).await.expect("it ends")
    }

    async fn holder(&self) -> Option<String> {
        self.lease.clone().read().await.expect("readable").holder
    }
}

const STOPPED: &str = "stopped, held: true, it led until now and is stopping that";

#[tokio::test]
async fn whoever_takes_over_finds_nothing_of_the_term_before() {
    let scene = Scene::new();
    scene.compete(None, scene.begun.notified()).await.expect("a good end");
    assert_eq!(scene.diary.read(), ["begun", STOPPED]);
    assert_eq!(scene.holder().await, None, "the next one waits for nothing");
}

#[tokio::test]
async fn a_replica_that_cannot_lead_gives_way_and_tries_again_later() {
    let scene = Scene::new();
    let twice = async {
        scene.begun.notified().await;
        scene.begun.notified().await;
        let told = scene
            .role
            .subscribe()
            .wait_for(|role| role.readiness().is_err_and(|why| why.contains("no luck")))
            .await
            .is_ok();
        assert!(told, "probes hear why");
        assert_eq!(scene.holder().await, None, "another one may do better");
    };
    scene.compete(Some(false), twice).await.expect("a good end");
    assert_eq!(scene.diary.read(), ["begun", STOPPED, "begun", STOPPED]);
}

#[tokio::test]
async fn a_replica_that_is_of_no_use_any_more_ends() {
    let scene = Scene::new();
    let error = scene.compete(Some(true), std::future::pending()).await.expect_err("it is final");
    assert_eq!(error.to_string(), "no luck");
    assert_eq!(scene.holder().await, None);
}

#[tokio::test]
async fn a_term_ends_with_the_leadership() {
    let scene = Scene::new();
    let lost = async {
        scene.begun.notified().await;
        scene.lease.put(|seen| seen.holder = Some("thief".to_owned()));
        let mut role = scene.role.subscribe();
        let is_standby = |role: &Role| role.readiness().is_ok_and(|what| what == "standby of thief");
        role.wait_for(is_standby).await.expect("it runs");
        scene.lease.set_trouble(LeaseTrouble::Refused);
    };
    scene.compete(None, lost).await.expect("a good end");
    assert_eq!(scene.diary.read(), ["begun", STOPPED]);
    scene.lease.set_trouble(LeaseTrouble::None);
    assert_eq!(scene.holder().await.as_deref(), Some("thief"));
}
