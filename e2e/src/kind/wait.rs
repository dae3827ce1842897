//! Waiting for what an object is to become.
//!
//! Owns the watches: every wait names what it waits for and says at its end what it saw last. Must never ask again and
//! again where the API server tells of changes.

use std::{fmt::Debug, pin::pin, time::Duration};

use anyhow::{Result, anyhow};
use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How long an object may take unless a caller says otherwise: generous, for slow and busy machines.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Watches the object `name` until `look` gives a value; it is given none while there is no such object. An error means
/// "not yet" and is shown when time runs out.
///
/// # Errors
/// When `patience` is over.
pub async fn object<K, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    patience: Duration,
    look: impl Fn(Option<&K>) -> Result<T>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut last = anyhow!("nothing was heard of {name}");
    let mut changes = pin!(watch_object(api.clone(), name).default_backoff());
    let looking = async {
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => match look(object.as_ref()) {
                    Ok(value) => return Some(value),
                    Err(error) => last = error,
                },
                Err(error) => last = error.into(),
            }
        }
        None
    };
    match timeout(patience, looking).await {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(anyhow!("the watch of {name} ended, waiting for {what}: {last:#}")),
        Err(_) => Err(anyhow!("waited {patience:?} for {what}; the last look said: {last:#}")),
    }
}

/// Watches until there is no object `name`.
///
/// # Errors
/// When `patience` is over.
pub async fn gone<K>(api: &Api<K>, name: &str, patience: Duration) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    object(api, name, &format!("{name} to go"), patience, |object| match object {
        None => Ok(()),
        Some(object) if object.meta().deletion_timestamp.is_some() => Err(anyhow!("it is being deleted")),
        Some(_) => Err(anyhow!("it is there, and nobody deletes it")),
    })
    .await
}
