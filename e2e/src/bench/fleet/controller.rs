//! The controller's process, what it costs, and what it says.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use tonic::transport::Channel;
use weft_core::types::NodeName;
use weft_proto::{
    connect::{self, for_http2, tls_builder},
    v1::{self, operator_service_client::OperatorServiceClient},
};

use super::seed::Seed;
use crate::lab::{Process, binaries, wait};

const HTTP: &str = "127.0.0.1:7888";
/// The kernel tells CPU times in these (USER_HZ), on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);
/// How often the controller is asked what it holds.
const PAUSE: Duration = Duration::from_millis(2);

/// A running controller with an operator's connection to it.
#[derive(Debug)]
pub(super) struct Controller {
    process: Process,
    operator: OperatorServiceClient<Channel>,
}

impl Controller {
    /// Starts it; returns once it answers.
    pub(super) async fn start(seed: &Seed) -> Result<Self> {
        let mut command = Command::new(binaries::find("weft-controller")?);
        command.arg("run").arg("--config").arg(seed.controller_dir().join("config.yaml"));
        let mut process = Process::spawn_here("weft-controller", command)?;
        let (operator_dir, address) = (seed.controller_dir().join("operator"), seed.address());
        let operator = wait::until("the controller to answer", wait::PATIENCE, async || {
            if let Some(status) = process.ended()? {
                bail!("the controller ended with {status}, see {}", process.log().display());
            }
            connect(&operator_dir, &address).await
        })
        .await?;
        Ok(Self { process, operator })
    }

    /// How it stands.
    pub(super) async fn status(&mut self) -> Result<v1::GetStatusResponse> {
        Ok(self.operator.get_status(v1::GetStatusRequest {}).await.context("the controller's status")?.into_inner())
    }

    /// Ends a membership.
    pub(super) async fn delete(&mut self, node: &NodeName) -> Result<()> {
        let request = v1::DeleteNodeRequest { node: node.to_string() };
        self.operator.delete_node(request).await.with_context(|| format!("deleting {node}"))?;
        Ok(())
    }

    /// Asks until that many agents are connected and all of them have acknowledged `sequence` and whatever came after.
    pub(super) async fn acknowledged(&mut self, connected: usize, sequence: u64) -> Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let status = self.status().await?;
            let newest = status.revision.unwrap_or_default().sequence;
            let acknowledged = status.acknowledged.map(|revision| revision.sequence);
            if usize::try_from(status.connected)? == connected
                && newest >= sequence
                && acknowledged.is_some_and(|acknowledged| acknowledged >= newest)
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < wait::PATIENCE,
                "waited for {connected} agents to acknowledge {sequence}: {} are connected, {acknowledged:?} of {newest} is \
                 acknowledged by all",
                status.connected
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// TLS handshakes of that result so far.
    pub(super) async fn handshakes(&self, result: &str) -> Result<u64> {
        let mut stream = TcpStream::connect(HTTP).await.context("the controller's metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let name = format!("weft_controller_tls_handshakes_total{{result=\"{result}\"}} ");
        let figure = text.lines().find_map(|line| line.strip_prefix(&name));
        figure.map_or(Ok(0), |figure| figure.parse().with_context(|| format!("{name}{figure}")))
    }

    /// Its memory in MiB: `VmRSS` now, `VmHWM` at its peak.
    pub(super) fn memory(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(self.proc("status")?)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// CPU time it has used, in all its threads; the kernel counts in hundredths of a second here.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.proc("stat")?)?;
        // After the command's name in parentheses, which may hold anything, utime and stime are the 12th and 13th.
        let rest = text.rsplit_once(')').context("no name in its stat")?.1;
        let ticks: Result<Vec<u64>, _> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect();
        let ticks: u64 = ticks.context("no times in its stat")?.iter().sum();
        Ok(TICK * u32::try_from(ticks)?)
    }

    /// SIGKILL.
    pub(super) async fn kill(self) -> Result<()> {
        self.process.kill().await
    }

    /// SIGKILL, and a successor at once; returns once it answers.
    pub(super) async fn restart(&mut self, seed: &Seed) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait().await?;
        *self = Self::start(seed).await?;
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<PathBuf> {
        let id = self.process.id().context("the controller has ended")?;
        Ok(PathBuf::from(format!("/proc/{id}/{file}")))
    }
}

async fn connect(identity: &std::path::Path, address: &str) -> Result<OperatorServiceClient<Channel>> {
    let certificate = |name: &str| CertificateDer::from_pem_file(identity.join(name));
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.crt")?)?;
    let config = tls_builder().with_root_certificates(roots).with_client_auth_cert(
        vec![certificate("operator.crt")?],
        PrivateKeyDer::from_pem_file(identity.join("operator.key"))?,
    )?;
    let channel = connect::controller(connect::resolve(address).await?, for_http2(config)).await?;
    Ok(OperatorServiceClient::new(channel))
}
