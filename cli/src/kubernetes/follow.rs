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
