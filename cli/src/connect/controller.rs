//! The controller that leads.
//!
//! Owns the operator's identity and going on to the leader that a standby names. Must never trust a hint further than
//! that: the leader shows a certificate of the same authority, or it is none.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tonic::{Response, Status, transport::Channel};
use weft_proto::{
    connect::{self, for_http2, tls_builder},
    leader::named_leader,
    v1::operator_service_client::OperatorServiceClient,
};

use super::{LARGEST_ANSWER, refusal};
use crate::args::Target;

const NO_IDENTITY: &str =
    "give --identity DIR, a directory of yours that `weft-controller init` or `weft-controller operator` wrote";
/// So many leaders in a row are believed: two that name each other have just changed places.
const LEADERS: usize = 3;

type Client = OperatorServiceClient<Channel>;

/// A controller that is, or knows, the leader.
pub(crate) struct Controller {
    tls: Arc<ClientConfig>,
    client: Client,
}

impl Controller {
    /// Connects to the one that was named.
    pub(super) async fn connect(target: &Target) -> anyhow::Result<Self> {
        let controller =
            target.controller.as_deref().context("this needs a controller: give --controller HOST:PORT")?;
        let identity = target.identity.as_deref().with_context(|| format!("no operator identity: {NO_IDENTITY}"))?;
        let tls = configuration(identity)?;
        let address = connect::resolve(controller).await?;
        let hint = "check --controller, and that --identity is of its cluster";
        let client = client(address, &tls).await.map_err(|error| anyhow::anyhow!("{error}; {hint}"))?;
        Ok(Self { tls, client })
    }

    /// Asks it, or the leader that it names.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        let answer = follow(self.client.clone(), &question, async |leader| client(leader, &self.tls).await).await?;
        Ok(answer.into_inner())
    }
}

async fn client(address: SocketAddr, tls: &Arc<ClientConfig>) -> anyhow::Result<Client> {
    let channel = connect::controller(address, Arc::clone(tls)).await?;
    Ok(OperatorServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// Puts the question to `first` and then to each leader that is named instead of an answer.
async fn follow<C, T>(
    first: C,
    question: &impl AsyncFn(C) -> Result<T, Status>,
    connect: impl AsyncFn(SocketAddr) -> anyhow::Result<C>,
) -> anyhow::Result<T> {
    let mut asked = first;
    for _ in 0..LEADERS {
        let status = match question(asked).await {
            Ok(answer) => return Ok(answer),
            Err(status) => status,
        };
        let Some(leader) = named_leader(&status) else { return Err(refusal(&status)) };
        asked = connect(leader).await.map_err(|error| anyhow::anyhow!("{}; {error:#}", refusal(&status)))?;
    }
    question(asked).await.map_err(|status| refusal(&status))
}

fn configuration(identity: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&identity.join("ca.crt"))?).context("ca.crt cannot be used")?;
    let key_path = identity.join("operator.key");
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .map_err(|error| anyhow::anyhow!("operator key {}: {error}; {NO_IDENTITY}", key_path.display()))?;
    let config = tls_builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&identity.join("operator.crt"))?], key)
        .context("operator.crt and operator.key do not belong together")?;
    Ok(for_http2(config))
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("certificate {}: {error}; {NO_IDENTITY}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use weft_proto::leader::not_leading;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 7887))
    }

    /// Asks controller 1, where each named one leads in the eyes of the controller before it.
    async fn asked(leaders: &[(u8, u8)], leading: Option<u8>) -> (Vec<SocketAddr>, anyhow::Result<()>) {
        let seen = RefCell::new(Vec::new());
        let question = async |controller: SocketAddr| {
            seen.borrow_mut().push(controller);
            if leading.is_some_and(|leading| address(leading) == controller) {
                return Ok(());
            }
            let leader = leaders.iter().find(|(standby, _)| address(*standby) == controller);
            Err(not_leading("a standby", leader.map(|(_, leader)| address(*leader))))
        };
        let answer = follow(address(1), &question, async |leader| Ok(leader)).await;
        (seen.into_inner(), answer)
    }

    #[tokio::test]
    async fn the_leader_that_a_standby_names_is_asked() {
        let (seen, answer) = asked(&[(1, 2), (2, 3)], Some(3)).await;
        answer.expect("3 leads");
        assert_eq!(seen, [address(1), address(2), address(3)]);
    }

    #[tokio::test]
    async fn standbys_that_name_each_other_are_not_followed_for_ever() {
        let (seen, answer) = asked(&[(1, 2), (2, 1)], None).await;
        assert_eq!(answer.expect_err("nobody leads").to_string(), "a standby");
        assert_eq!(seen.len(), LEADERS + 1);
    }

    #[tokio::test]
    async fn a_standby_that_knows_no_leader_has_the_last_word() {
        let (seen, answer) = asked(&[], None).await;
        assert!(answer.is_err());
        assert_eq!(seen, [address(1)]);
    }
}
