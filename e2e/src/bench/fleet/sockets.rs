//! Bytes on the connections, as the kernel counts them (`tcp_info`, by sock_diag(7)).
//!
//! Owns the difference of two looks. Above TCP there is TLS and nothing else, so what TCP carried is TLS records. A
//! connection that is in one of the two looks only does not count.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::bench::round;

/// What the controller sent and received on each connection, by the agent's address.
#[derive(Debug, Default)]
pub(super) struct Traffic(HashMap<String, (u64, u64)>);

/// Bytes, summed up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bytes {
    pub(super) to_agents: u64,
    pub(super) from_agents: u64,
    pub(super) connections: u64,
}

impl Bytes {
    /// Adds what another span had.
    pub(super) fn add(&mut self, more: Self) {
        self.to_agents += more.to_agents;
        self.from_agents += more.from_agents;
        self.connections += more.connections;
    }

    /// To and from each agent, on average.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn per_connection(&self) -> (f64, f64) {
        let share = |bytes: u64| round(bytes as f64 / self.connections as f64);
        (share(self.to_agents), share(self.from_agents))
    }
}

impl Traffic {
    /// Looks at all connections of the controller's `port`.
    pub(super) async fn now(port: u16) -> Result<Self> {
        let mut command = Command::new("ss");
        command.args(["--tcp", "--info", "--numeric", "--no-header", "--oneline", "state", "established"]);
        command.arg("sport").arg("=").arg(format!(":{port}"));
        let output = command.output().await.context("cannot start ss(8) of iproute2")?;
        ensure!(output.status.success(), "ss failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    fn parse(text: &str) -> Result<Self> {
        let connection = |line: &str| -> Result<(String, (u64, u64))> {
            // Receive queue, send queue, own address, the other's, details.
            let peer = line.split_whitespace().nth(3).with_context(|| format!("no address in {line:?}"))?;
            // Absent while it is zero.
            let count = |name: &str| -> Result<u64> {
                let text = line.split_whitespace().find_map(|word| word.strip_prefix(name));
                text.map_or(Ok(0), |text| text.parse().with_context(|| format!("{name}{text} of ss")))
            };
            let again = count("bytes_retrans:")?;
            Ok((peer.to_owned(), (count("bytes_sent:")? - again, count("bytes_received:")?)))
        };
        text.lines().map(connection).collect::<Result<_>>().map(Self)
    }

    /// What went over the connections since an `earlier` look.
    pub(super) fn since(&self, earlier: &Self) -> Bytes {
        let mut bytes = Bytes::default();
        for (peer, (sent, received)) in &self.0 {
            let Some((sent_before, received_before)) = earlier.0.get(peer) else { continue };
            bytes.to_agents += sent.saturating_sub(*sent_before);
            bytes.from_agents += received.saturating_sub(*received_before);
            bytes.connections += 1;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_both_looks_count_and_no_byte_twice() {
        let look = |lines: &[&str]| Traffic::parse(&lines.join("\n")).expect("lines of ss");
        let before = look(&["0 0 127.0.0.1:7887 127.0.0.1:4000 cubic wscale:10,10 bytes_sent:100 bytes_acked:100"]);
        let after = look(&[
            "0 0 127.0.0.1:7887 127.0.0.1:4000 cubic bytes_sent:260 bytes_retrans:10 bytes_received:51 segs_out:3",
            "0 0 127.0.0.1:7887 127.0.0.1:4001 cubic bytes_sent:9999 bytes_received:9999",
        ]);
        let bytes = after.since(&before);
        assert_eq!((bytes.to_agents, bytes.from_agents, bytes.connections), (150, 51, 1));
    }
}
