//! A controller with few connections, and somebody who wants all of them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{io::AsyncReadExt, task::JoinSet};
use tokio_rustls::TlsConnector;
use weft_e2e::{
    cluster::Cluster,
    lab::{LabSpec, Namespace, wait},
    lab_test,
};
use weft_proto::connect::{SERVER_NAME, for_http2, tls_builder};

/// Of which the controller keeps some for itself, so that 172 are left.
const OPEN_FILES: u32 = 300;
/// More than there are.
const CROWD: usize = 200;
/// With so many the controller has nothing left to give, if it gives to whoever comes.
const MANY: usize = 160;

/// The TLS of a certificate that somebody has copied, or of nobody.
fn tls(ca: &Path, identity: Option<(PathBuf, PathBuf)>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let builder = tls_builder().with_root_certificates(roots);
    Ok(for_http2(match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?,
        None => builder.with_no_client_auth(),
    }))
}

/// Of a node, as long as its disk is there.
fn of_node(cluster: &Cluster, node: &str) -> Result<Arc<ClientConfig>> {
    let identity = cluster.agent(node).state().join("identity");
    tls(&identity.join("ca.crt"), Some((identity.join("node.crt"), identity.join("node.key"))))
}

/// Connections that are held for as long as the controller lets them.
#[derive(Default)]
struct Crowd {
    tasks: JoinSet<Result<()>>,
    shaken: Arc<AtomicUsize>,
}

impl Crowd {
    /// Another [`CROWD`] of connections with this certificate.
    fn gather(&mut self, from: &Namespace, controller: SocketAddr, tls: &Arc<ClientConfig>) -> Result<()> {
        for _ in 0..CROWD {
            let (socket, tls) = (from.tcp_towards(controller.ip())?, TlsConnector::from(Arc::clone(tls)));
            let shaken = Arc::clone(&self.shaken);
            self.tasks.spawn(async move {
                let name = SERVER_NAME.try_into()?;
                let mut stream = tls.connect(name, socket.connect(controller).await?).await?;
                shaken.fetch_add(1, Ordering::Relaxed);
                stream.read_to_end(&mut Vec::new()).await?;
                Ok(())
            });
        }
        Ok(())
    }

    /// Waits until all are there that the controller lets in at a time.
    async fn is_there(&self) -> Result<()> {
        wait::until("the crowd to be there", wait::PATIENCE, async || {
            let shaken = self.shaken.load(Ordering::Relaxed);
            ensure!(shaken >= MANY, "{shaken} handshakes");
            Ok(())
        })
        .await
    }
}

/// A cluster of a1 and, until it is deleted, b1, whose certificate is returned.
async fn scene() -> Result<(Cluster, SocketAddr, Arc<ClientConfig>)> {
    let cluster = Cluster::empty(LabSpec::default()).await?;
    let controller = cluster.controller();
    controller.stop().await?;
    controller.limit_open_files(OPEN_FILES);
    controller.start().await?;
    for node in ["a1", "b1"] {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let deleted = of_node(&cluster, "b1")?;
    cluster.delete("b1").await?;
    let address = controller.address().parse().context("the controller's address")?;
    Ok((cluster, address, deleted))
}

/// What everybody else goes on with.
async fn nobody_else_minds(cluster: &Cluster) -> Result<()> {
    for _ in 0..3 {
        cluster.controller().weft().run(&["status"]).await?;
    }
    let row = cluster.controller().weft().peer("a1").await?;
    ensure!(row.is_ready(), "{row:?}");
    cluster.join("a2").await?;
    cluster.ready().await?;
    cluster.connected().await
}

lab_test!(the_certificate_of_a_deleted_node_keeps_nobody_out, async || {
    let (cluster, controller, deleted) = scene().await?;
    let mut crowd = Crowd::default();
    crowd.gather(&cluster.lab().host("b1").net(), controller, &deleted)?;
    crowd.is_there().await?;
    nobody_else_minds(&cluster).await
});

lab_test!(neither_a_members_certificate_nor_none_keeps_anybody_out, async || {
    let (cluster, controller, _) = scene().await?;
    let mut crowd = Crowd::default();
    let from = cluster.lab().host("b1").net();
    crowd.gather(&from, controller, &of_node(&cluster, "a1")?)?;
    crowd.is_there().await?;
    cluster.controller().weft().run(&["status"]).await?;
    let ca = cluster.controller().directory().join("ca.crt");
    crowd.gather(&from, controller, &tls(&ca, None)?)?;
    nobody_else_minds(&cluster).await
});

lab_test!(with_everything_taken_by_operators_another_gets_in, async || {
    let (cluster, controller, _) = scene().await?;
    let directory = cluster.controller().directory();
    let mut crowd = Crowd::default();
    for name in ["tool", "other-tool", "third-tool"] {
        let own = directory.join(name);
        cluster.controller().make_operator(name, &own).await?;
        let identity = (own.join("operator.crt"), own.join("operator.key"));
        crowd.gather(&cluster.lab().host("b1").net(), controller, &tls(&directory.join("ca.crt"), Some(identity))?)?;
    }
    crowd.is_there().await?;
    nobody_else_minds(&cluster).await
});
