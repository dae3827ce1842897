//! Streams of 1,000 packets a second that tell what something costs the pods.
//!
//! Owns pods and streams across the router, both ways, one a family; and the devices that have to stay the same ones.

use anyhow::{Result, ensure};
use weft_e2e::{
    kind::{Kind, Pod, Scene},
    lab::Stream,
};

/// Packets a second.
const RATE: u32 = 1000;
/// Packets before and after what happens.
const SETTLED: u64 = 500;
/// Weft's device.
const DEVICE: &str = "weft0";

/// Running streams.
pub(crate) struct Streams<'a> {
    kind: &'a Kind,
    scene: Scene,
    _pods: Vec<Pod>,
    streams: Vec<Stream>,
    devices: Vec<(String, u32)>,
}

impl<'a> Streams<'a> {
    /// Starts streams in a scene of this name.
    pub(crate) async fn start(kind: &'a Kind, name: &str) -> Result<Self> {
        let scene = Scene::set(kind, name).await?;
        let pods = scene.pods_of("stream", &kind.across()).await?;
        let mut streams = Vec::new();
        for family in kind.families() {
            // What has to be learnt once is not what an outage costs.
            pods[0].reaches(pods[1].address(family)).await?;
            for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
                streams.push(Stream::start(from.net(), to.net(), to.address(family), RATE)?);
            }
        }
        let started = Self { kind, scene, _pods: pods, streams, devices: devices(kind).await? };
        started.pass().await;
        Ok(started)
    }

    /// Lets some packets pass.
    pub(crate) async fn pass(&self) {
        self.streams[0].pass(SETTLED).await;
    }

    /// Ends the streams; nothing may be lost, and the devices are still the same.
    pub(crate) async fn expect_no_loss(self) -> Result<()> {
        self.pass().await;
        let now = devices(self.kind).await?;
        for device in &self.devices {
            ensure!(now.contains(device), "{DEVICE} of {} was re-created: {now:?}", device.0);
        }
        for stream in self.streams {
            let account = stream.stop().await?;
            println!("{} packets, {} lost, {} late", account.sent, account.lost_packets(), account.late);
            account.expect_no_loss(2 * SETTLED)?;
        }
        self.scene.end().await
    }
}

/// The index of Weft's device on each node.
async fn devices(kind: &Kind) -> Result<Vec<(String, u32)>> {
    let mut devices = Vec::new();
    for node in kind.nodes() {
        devices.push((node.name().to_owned(), node.net().wire().index(DEVICE).await?));
    }
    Ok(devices)
}
