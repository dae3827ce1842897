//! Events about Kubernetes' objects.
//!
//! Owns their sending: one at a time and in order, each text about an object once in a while only, and none at all where
//! too many wait. Must never hold up or fail what they tell of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Events that may wait to be sent.
const WAITING: usize = 256;
/// The same text about the same object is not repeated within this time.
const REPEAT: Duration = Duration::from_secs(600);
/// Texts that are remembered.
const REMEMBERED: usize = 10_000;
/// Time to send one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is being told about which object: its kind, name and UID, the reason, the text.
type Told = (Option<String>, Option<String>, Option<String>, &'static str, String);

/// The way to tell. Clones share what was told.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
    told: Arc<Mutex<HashMap<Told, Instant>>>,
}

impl Events {
    /// Begins to send, in the name of this replica, until the last clone is gone.
    pub(crate) fn start(client: Client, replica: String) -> Self {
        let reporter = Reporter { controller: "weft-controller".to_owned(), instance: Some(replica) };
        let recorder = Recorder::new(client, reporter);
        let (queue, mut waiting) = mpsc::channel::<(ObjectReference, Event)>(WAITING);
        tokio::spawn(async move {
            while let Some((about, event)) = waiting.recv().await {
                match timeout(PATIENCE, recorder.publish(&event, &about)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(reason = event.reason, "event not sent: {error}"),
                    Err(_) => tracing::debug!(reason = event.reason, "event not sent in time"),
                }
            }
        });
        Self { queue, told: Arc::default() }
    }

    /// Something needs a hand.
    pub(crate) fn warn(&self, about: &ObjectReference, reason: &'static str, note: &str) {
        self.tell(EventType::Warning, about, reason, note);
    }

    /// Something happened.
    pub(crate) fn say(&self, about: &ObjectReference, reason: &'static str, note: &str) {
        self.tell(EventType::Normal, about, reason, note);
    }

    fn tell(&self, type_: EventType, about: &ObjectReference, reason: &'static str, note: &str) {
        let key = (about.kind.clone(), about.name.clone(), about.uid.clone(), reason, note.to_owned());
        if !self.is_news(key) {
            return;
        }
        // The API server takes 1,024 bytes.
        let note = note.chars().scan(0, |length, letter| {
            *length += letter.len_utf8();
            (*length <= 1024).then_some(letter)
        });
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((about.clone(), event)).is_err() {
            tracing::debug!(reason, "event left out: too many wait");
        }
    }

    fn is_news(&self, key: Told) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.duration_since(*at) < REPEAT);
        }
        let is_news = told.get(&key).is_none_or(|at| now.duration_since(*at) >= REPEAT);
        if is_news && told.len() < REMEMBERED {
            told.insert(key, now);
        }
        is_news
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
