//! Rate limiting of warnings and errors that repeat.
//!
//! Owns which events count as equal (same target, same message) and who says afterwards how many were left out: a thread
//! that lives only while there is something to say. Must never hold back what is rare, or anything below a warning.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

use tracing::{
    Dispatch, Event, Level, Subscriber,
    dispatcher::{WeakDispatch, with_default},
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::repeats::{Line, Repeats, Summary};

/// Equal lines that pass within [`WINDOW`].
const BURST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// A layer that drops repeated warnings and errors and sums them up.
#[derive(Debug)]
pub struct RateLimit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Where summaries go: the subscriber this layer is part of.
    out: OnceLock<WeakDispatch>,
}

#[derive(Debug)]
struct State {
    repeats: Repeats,
    is_summing: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(BURST, WINDOW)
    }
}

impl RateLimit {
    /// Lets `burst` equal lines pass within `window`.
    pub fn new(burst: u32, window: Duration) -> Self {
        let state = State { repeats: Repeats::new(burst, window), is_summing: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), out: OnceLock::new() }) }
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // Registered once: a layer belongs to one subscriber.
        let _ = self.shared.out.set(subscriber.downgrade());
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let line = Line { target: metadata.target().to_owned(), message: message.0 };
        let mut state = self.shared.lock();
        let passes = state.repeats.passes(line, *metadata.level() == Level::ERROR, Instant::now());
        if !passes && !state.is_summing {
            let shared = Arc::clone(&self.shared);
            let summing = thread::Builder::new().name("log-summary".to_owned()).spawn(move || sum_up(&shared));
            // Without a thread the next line held back tries again.
            state.is_summing = summing.is_ok();
        }
        passes
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The next summaries, or how long to wait for them; none when nothing is held back any more.
    fn next(&self) -> Option<Result<Vec<Summary>, Duration>> {
        let mut state = self.lock();
        let now = Instant::now();
        let Some(due) = state.repeats.next_due() else {
            state.is_summing = false;
            return None;
        };
        let left = due.saturating_duration_since(now);
        Some(if left.is_zero() { Ok(state.repeats.take_due(now)) } else { Err(left) })
    }
}

fn sum_up(shared: &Shared) {
    while let Some(next) = shared.next() {
        match (next, shared.out.get().and_then(WeakDispatch::upgrade)) {
            (_, None) => return,
            // What waits holds no subscriber, so that one that is dropped is gone.
            (Err(left), Some(out)) => {
                drop(out);
                thread::sleep(left);
            }
            (Ok(summaries), Some(out)) => with_default(&out, || summaries.iter().for_each(say)),
        }
    }
}

fn say(summary: &Summary) {
    let Summary { line: Line { target, message }, is_error, count } = summary;
    let message = if message.is_empty() { "(different messages)" } else { message.as_str() };
    if *is_error {
        tracing::error!(repeats = count, of = target, "{count} more within a minute were left out: {message}");
    } else {
        tracing::warn!(repeats = count, of = target, "{count} more within a minute were left out: {message}");
    }
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::mpsc,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone)]
    struct Lines(mpsc::Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(burst: u32, window: Duration) -> (Dispatch, mpsc::Receiver<String>) {
        let (sender, lines) = mpsc::channel();
        let json = tracing_subscriber::fmt::layer().json().with_writer(move || Lines(sender.clone()));
        (Dispatch::new(tracing_subscriber::registry().with(json).with(RateLimit::new(burst, window))), lines)
    }

    #[test]
    fn every_line_is_logged_or_counted_in_a_summary() {
        let (out, lines) = log(2, Duration::from_millis(200));
        with_default(&out, || {
            for node in 0..50 {
                tracing::warn!(node, "join refused");
            }
        });
        let (mut logged, mut counted) = (0, 0);
        while logged + counted < 50 {
            let line = lines.recv_timeout(Duration::from_secs(30)).expect("a line or a summary");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(line["level"], "WARN", "{line}");
            match line["fields"]["repeats"].as_u64() {
                Some(count) => counted += count,
                None => logged += 1,
            }
        }
        assert!(logged < 50 && counted > 0, "{logged} lines, {counted} counted");
    }

    #[test]
    fn what_differs_and_what_only_informs_is_not_held_back() {
        let (out, lines) = log(1, Duration::from_secs(3600));
        with_default(&out, || {
            for number in 0..20 {
                tracing::info!("the same");
                tracing::error!("{number}");
            }
        });
        drop(out);
        assert_eq!(lines.iter().count(), 40);
    }
}
