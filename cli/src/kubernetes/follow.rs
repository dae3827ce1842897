//! The Vteps and every change of them.
//!
//! Owns the watch: pages first, then changes, again and again where it breaks. Must never show a list while it is being
//! read again: a node would seem to be gone.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Event},
    },
};

use super::{Cluster, PAGE, ReadVtep, failure::Doing};

const DOING: Doing<'static> = Doing::watch("vteps.weft.dev");

/// Follows the Vteps.
pub(crate) struct Follow<'a> {
    cluster: &'a Cluster,
    stream: Pin<Box<dyn Stream<Item = watcher::Result<Event<ReadVtep>>> + Send>>,
    vteps: BTreeMap<String, ReadVtep>,
    /// Being read again.
    fresh: Option<BTreeMap<String, ReadVtep>>,
    is_warned: bool,
}

impl Cluster {
    /// Begins to follow the Vteps.
    pub(crate) fn follow(&self) -> Follow<'_> {
        let config = Config::default().page_size(PAGE);
        let stream = watcher::watcher(Api::all(self.client.clone()), config).default_backoff();
        Follow { cluster: self, stream: stream.boxed(), vteps: BTreeMap::new(), fresh: None, is_warned: false }
    }
}

impl Follow<'_> {
    /// Waits for the next complete list; may be cancelled. What may pass by itself is said on standard error and tried
    /// again; what cannot, such as a missing right, is an error.
    pub(crate) async fn changed(&mut self) -> anyhow::Result<()> {
        loop {
            match self.stream.next().await {
                None => anyhow::bail!("the watch of vteps.weft.dev has ended"),
                Some(Err(error)) => self.warn(&error)?,
                Some(Ok(event)) => {
                    if self.take(event) {
                        self.is_warned = false;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The Vteps by name, as last seen.
    pub(crate) fn vteps(&self) -> impl Iterator<Item = &ReadVtep> {
        self.vteps.values()
    }

    /// True where the list is another now.
    fn take(&mut self, event: Event<ReadVtep>) -> bool {
        let name = |vtep: &ReadVtep| vtep.meta().name.clone().unwrap_or_default();
        match event {
            Event::Init => self.fresh = Some(BTreeMap::new()),
            Event::InitApply(vtep) => {
                if let Some(fresh) = &mut self.fresh {
                    fresh.insert(name(&vtep), vtep);
                }
            }
            Event::InitDone => {
                self.vteps = self.fresh.take().unwrap_or_default();
                return true;
            }
            Event::Apply(vtep) => {
                self.vteps.insert(name(&vtep), vtep);
                return true;
            }
            Event::Delete(vtep) => {
                self.vteps.remove(&name(&vtep));
                return true;
            }
        }
        false
    }

    fn warn(&mut self, error: &watcher::Error) -> anyhow::Result<()> {
        use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
        let source = &self.cluster.source;
        let (code, explained) = match error {
            InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
                let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
                (code, DOING.explain(error, source))
            }
            WatchError(status) => (status.code, DOING.refused(status.code, &status.message, source)),
            NoResourceVersion => (0, anyhow::anyhow!("{error}")),
        };
        // 410 is how a watch is told to read everything again.
        match code {
            401 | 403 | 404 => return Err(explained),
            410 => {}
            _ if !self.is_warned => {
                self.is_warned = true;
                eprintln!("weft: {explained:#}; trying again");
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::from_value;

    use super::{super::tests, *};

    fn vtep(name: &str) -> ReadVtep {
        from_value(tests::vtep(name)).expect("an object")
    }

    fn names(follow: &Follow<'_>) -> Vec<String> {
        follow.vteps().map(|vtep| vtep.meta().name.clone().expect("it has one")).collect()
    }

    #[tokio::test]
    async fn a_list_that_is_read_again_is_shown_when_it_is_whole() {
        let cluster = tests::cluster(BTreeMap::new());
        let mut follow = cluster.follow();
        for (event, is_news) in [
            (Event::Init, false),
            (Event::InitApply(vtep("b")), false),
            (Event::InitApply(vtep("a")), false),
            (Event::InitDone, true),
            (Event::Delete(vtep("b")), true),
            (Event::Apply(vtep("c")), true),
        ] {
            assert_eq!(follow.take(event), is_news);
        }
        assert_eq!(names(&follow), ["a", "c"]);
        assert!(!follow.take(Event::Init) && !follow.take(Event::InitApply(vtep("c"))));
        assert_eq!(names(&follow), ["a", "c"], "it is being read again");
        assert!(follow.take(Event::InitDone));
        assert_eq!(names(&follow), ["c"], "a went meanwhile");
    }

    #[tokio::test]
    async fn a_missing_right_ends_it_and_trouble_does_not() {
        let cluster = tests::cluster(BTreeMap::new());
        let mut follow = cluster.follow();
        let refused = |code: u16| {
            let (_, status) = tests::refusal(code, "no");
            watcher::Error::WatchError(from_value(status).expect("a Status"))
        };
        assert!(follow.warn(&refused(410)).is_ok() && !follow.is_warned, "the usual end of a watch");
        assert!(follow.warn(&refused(503)).is_ok() && follow.is_warned);
        let error = follow.warn(&refused(403)).expect_err("it will not get better");
        assert!(error.to_string().contains("the verb watch on vteps.weft.dev"), "{error}");
    }

    #[tokio::test]
    async fn a_cluster_without_weft_is_not_followed() {
        let cluster = tests::cluster(BTreeMap::new());
        let error = cluster.follow().changed().await.expect_err("it has no such resource");
        assert!(error.to_string().contains("Weft is not installed there"), "{error}");
    }
}
