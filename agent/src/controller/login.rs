//! The identity that streams are opened with.
//!
//! Owns when it is taken from the disk, when it is joined for and when it is renewed, also after its end. Must never join while the identity at
//! hand is good: each join costs the controller a look into its store, or a question to the API server.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::sync::watch;
use tonic::transport::Channel;
use tracing::{info, warn};
use weft_core::types::NodeName;
use weft_proto::connect;

use super::{
    Credentials, Deadlines, Identity, JoinToken,
    credentials::read_service_account_token,
    identity::Vault,
    join::{self, JoinError, Proof},
    tls,
};
use crate::disk_trouble::DiskTrouble;

/// A renewal that takes longer has failed: meanwhile the stream is not listened to.
const RENEWAL_LIMIT: Duration = Duration::from_secs(10);

/// The identity in use, with the TLS configuration that remembers its sessions.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) identity: Identity,
    pub(super) tls: Arc<ClientConfig>,
    trusted: Vec<CertificateDer<'static>>,
}

/// Where logins come from.
#[derive(Debug)]
pub(super) struct Desk {
    node: NodeName,
    credentials: Credentials,
    vault: Vault,
    /// Kept as long as the disk holds the same and the same are trusted.
    kept: Option<Arc<Login>>,
    deadlines: watch::Sender<Option<Deadlines>>,
}

impl Desk {
    pub(super) fn new(node: NodeName, credentials: Credentials, vault: Vault) -> Self {
        Self { node, credentials, vault, kept: None, deadlines: watch::Sender::new(None) }
    }

    /// The moments of the certificate; none where another can be had at any time.
    pub(super) fn deadlines(&self) -> watch::Receiver<Option<Deadlines>> {
        self.deadlines.subscribe()
    }

    /// Looks what is stored, so that there is something to tell before a controller answers.
    pub(super) fn look(&self) {
        // What cannot be read is told of when it is to be used.
        self.note(self.vault.load().ok().flatten().as_ref());
    }

    fn note(&self, identity: Option<&Identity>) {
        let deadlines = identity.filter(|_| !self.joins_at_will()).map(Identity::deadlines);
        self.deadlines.send_if_modified(|known| std::mem::replace(known, deadlines) != deadlines);
    }

    /// The same, which says where it cannot write.
    pub(super) fn telling(self, trouble: DiskTrouble) -> Self {
        Self { vault: self.vault.telling(trouble), ..self }
    }

    /// True while the identity in use is not on disk.
    pub(super) fn is_behind(&self) -> bool {
        self.vault.is_behind()
    }

    /// Tries the disk again.
    pub(super) fn save_again(&self) {
        self.vault.save_again();
    }

    /// True where credentials are good for another certificate at any time.
    pub(super) const fn joins_at_will(&self) -> bool {
        matches!(self.credentials, Credentials::ServiceAccount { .. })
    }

    /// What was used last, unless another identity is stored by now or others are trusted.
    pub(super) async fn login(&mut self, address: SocketAddr) -> anyhow::Result<Arc<Login>> {
        self.vault.save_again();
        let given = self.credentials.authorities()?;
        let usable = |login: &&Arc<Login>| {
            self.vault.holds(&login.identity)
                && !login.identity.is_over(SystemTime::now())
                && given.as_ref().is_none_or(|given| *given == login.trusted)
        };
        if let Some(login) = self.kept.as_ref().filter(usable) {
            return Ok(Arc::clone(login));
        }
        let identity = self.identity(address, given.as_deref()).await?;
        self.note(Some(&identity));
        let trusted = given.unwrap_or_else(|| vec![identity.ca.clone()]);
        let login = Arc::new(Login { tls: tls::for_identity(&identity, &trusted)?, identity, trusted });
        self.kept = Some(Arc::clone(&login));
        Ok(login)
    }

    /// The stored identity, or one that the credentials buy.
    async fn identity(
        &self,
        address: SocketAddr,
        trusted: Option<&[CertificateDer<'static>]>,
    ) -> anyhow::Result<Identity> {
        let stored = match self.vault.load() {
            Err(error) if self.joins_at_will() => {
                warn!("{error:#}: joining anew");
                self.vault.forget_key()?;
                None
            }
            other => other?,
        };
        // One of an authority that is not trusted any more: its controller is gone too.
        let stored = stored.filter(|identity| trusted.is_none_or(|trusted| trusted.contains(&identity.ca)));
        match stored {
            Some(identity) if !identity.is_over(SystemTime::now()) => Ok(identity),
            Some(identity) if !self.can_join_again() => self.renew_late(address, &identity).await,
            _ => self.join(address).await,
        }
    }

    /// True where a refused identity is not the end: there are credentials that it did not come from.
    pub(super) fn can_join_again(&self) -> bool {
        match &self.credentials {
            Credentials::ServiceAccount { .. } => true,
            Credentials::JoinToken(path) => {
                let token = path.as_deref().and_then(|path| JoinToken::read(path).ok());
                token.is_some_and(|token| self.vault.token_id().as_deref() != Some(token.id()))
            }
        }
    }

    /// Joins over a connection of its own, on which the controller proves itself first.
    pub(super) async fn join(&self, address: SocketAddr) -> anyhow::Result<Identity> {
        let (proof, tls) = match &self.credentials {
            Credentials::ServiceAccount { token, .. } => {
                let trusted = self.credentials.authorities()?.unwrap_or_default();
                (Proof::ServiceAccount(read_service_account_token(token)?), tls::for_authorities(&trusted)?)
            }
            Credentials::JoinToken(path) => {
                let path = path.as_deref().with_context(|| {
                    format!("node {} has no certificate yet: give a join token with --token-file", self.node)
                })?;
                let token = JoinToken::read(path)?;
                let tls = tls::for_fingerprint(token.ca_fingerprint());
                (Proof::JoinToken(token), tls)
            }
        };
        let channel = connect::controller(address, tls).await?;
        let identity = join::join(channel, &self.node, &proof, &self.vault).await.map_err(JoinError::unwrapped)?;
        info!(node = %self.node, "joined");
        Ok(identity)
    }

    /// Renews a certificate that has ended, over a connection of its own: it is good for nothing else.
    pub(super) async fn renew_late(&self, address: SocketAddr, identity: &Identity) -> anyhow::Result<Identity> {
        let tls = tls::for_identity(identity, std::slice::from_ref(&identity.ca))?;
        let renewed = async { join::renew(connect::controller(address, tls).await?, &self.node, &self.vault).await };
        let renewed = within_limit(renewed).await.with_context(|| {
            let node = &self.node;
            format!(
                "the certificate of node {node} has ended and is not renewed yet; if the controller goes on refusing that, join again \
                 with a new token (`weft token create {node}`)"
            )
        })?;
        info!(node = %self.node, "certificate renewed after its end");
        Ok(renewed)
    }

    /// Gets a new certificate for the same key and stores it; the stream of `channel` goes on meanwhile.
    pub(super) async fn renew(&self, channel: Channel) -> anyhow::Result<()> {
        let renewed = async {
            match &self.credentials {
                Credentials::ServiceAccount { token, .. } => {
                    let proof = Proof::ServiceAccount(read_service_account_token(token)?);
                    join::join(channel, &self.node, &proof, &self.vault).await.map_err(JoinError::unwrapped)?;
                }
                Credentials::JoinToken(_) => drop(join::renew(channel, &self.node, &self.vault).await?),
            }
            anyhow::Ok(())
        };
        within_limit(renewed).await?;
        info!(node = %self.node, "certificate renewed");
        Ok(())
    }
}

async fn within_limit<T>(renewing: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = || format!("no answer within {} s", RENEWAL_LIMIT.as_secs());
    tokio::time::timeout(RENEWAL_LIMIT, renewing).await.with_context(late)?
}
