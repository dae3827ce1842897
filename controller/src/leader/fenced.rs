//! The store of one term.
//!
//! Owns looking at the [`Fence`] before each batch: what a leader decided before it slept is not written after it woke. A
//! write that is under way when the time ends is for the store's own preconditions.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, ready};

use super::Fence;
use crate::store::{Store, StoreError, Stored, Write};

/// A store that works while the fence holds.
pub(crate) struct Fenced<S> {
    store: S,
    fence: Fence,
}

impl<S: Store> Fenced<S> {
    pub(crate) fn new(store: S, fence: Fence) -> Arc<Self> {
        Arc::new(Self { store, fence })
    }

    /// Why nothing may be done, where that is so.
    fn refusal<T: Send + 'static>(&self) -> Option<BoxFuture<'_, Result<T, StoreError>>> {
        (!self.fence.holds()).then(|| ready(Err(StoreError::Over)).boxed())
    }
}

impl<S: Store> Store for Fenced<S> {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.refusal().unwrap_or_else(|| self.store.load())
    }

    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.refusal().unwrap_or_else(|| self.store.commit(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn nothing_is_written_after_the_term() {
        let store = MemoryStore::default();
        let now = Fenced::new(store.clone(), Fence::held());
        now.commit(vec![Write::Epoch(7)]).await.expect("the term goes on");
        assert_eq!(now.load().await.expect("the term goes on").epoch, 7);
        let over = Fenced::new(store.clone(), Fence::default());
        over.commit(vec![Write::Epoch(8)]).await.expect_err("the term is over");
        over.load().await.expect_err("the term is over");
        assert_eq!(store.load().await.expect("nobody is in the way").epoch, 7);
    }
}
