//! containerd on a host of the lab, with root, state, socket and CNI directories of its own.
//!
//! Owns its configuration and its process. Everything is below the host's directory, but for libcni's cache and the
//! shims' sockets, whose places are fixed: those are private to the sandbox.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{process::Command, sync::Mutex};
use weft_e2e::{
    bench::pods::reference_plugins,
    cluster::Agent,
    lab::{Process, wait},
};

use super::cri::Cri;

/// A runtime and the agent of its host.
pub(crate) struct Containerd {
    agent: Arc<Agent>,
    directory: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Containerd {
    /// Sets it up and starts it.
    pub(crate) async fn install(agent: Arc<Agent>) -> Result<Self> {
        let directory = agent.host().directory().join("containerd");
        fs::create_dir_all(directory.join("cni"))?;
        chain(&agent, &directory).await?;
        fs::write(directory.join("config.toml"), config(&directory, &agent))?;
        let runtime = Self { agent, directory, process: Mutex::default() };
        runtime.start().await?;
        runtime.import().await?;
        Ok(runtime)
    }

    /// Starts it; returns once it answers.
    pub(crate) async fn start(&self) -> Result<Cri> {
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.directory.join("config.toml"));
        *self.process.lock().await = Some(self.agent.host().spawn("containerd", command)?);
        let what = format!("containerd of {}", self.agent.host().name());
        wait::until(&what, wait::PATIENCE, async || {
            let cri = self.cri().await?;
            cri.list().await?;
            Ok(cri)
        })
        .await
    }

    pub(crate) async fn kill(&self) -> Result<()> {
        self.process.lock().await.take().context("containerd does not run")?.kill().await
    }

    pub(crate) async fn cri(&self) -> Result<Cri> {
        Cri::connect(self.directory.join("containerd.sock")).await
    }

    async fn import(&self) -> Result<()> {
        let image = self.directory.join("image");
        fs::create_dir_all(&image)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pods/containerd/image.sh");
        let made = Command::new(script).arg(&image).output().await.context("image.sh")?;
        ensure!(made.status.success(), "image.sh: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.directory.join("containerd.sock"));
        command.args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]);
        let done = command.arg(image.join("image.tar")).output().await.context("ctr")?;
        ensure!(done.status.success(), "ctr images import: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }
}

/// The plugins that an operator chains behind Weft's.
async fn chain(agent: &Agent, directory: &Path) -> Result<()> {
    let installed = agent.cni_configuration().join("10-weft.conflist");
    wait::until("the agent's CNI configuration", wait::PATIENCE, async || Ok(fs::metadata(&installed)?)).await?;
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "weft",
        "plugins": [
            {"type": "weft-cni", "socket": agent.socket()},
            {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ],
    });
    fs::write(directory.join("cni/05-weft.conflist"), list.to_string())?;
    let reference = reference_plugins()?;
    for plugin in ["loopback", "portmap", "bandwidth"] {
        let source = reference.join(plugin);
        ensure!(source.is_file(), "{} is missing: run `./dev containerd`", source.display());
        symlink(source, agent.cni_programs().join(plugin))?;
    }
    // libcni's cache has a fixed place, which only this sandbox sees.
    symlink("/var/lib/cni/results", agent.cni_results()).context("the agent's view of the cache")
}

/// Without what only a machine's own containerd may do: cgroups of its own, AppArmor profiles, a better OOM score.
fn config(directory: &Path, agent: &Agent) -> String {
    let (own, programs) = (directory.display(), agent.cni_programs());
    format!(
        r#"version = 2
root = "{own}/root"
state = "{own}/state"
[grpc]
address = "{own}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{own}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "weft.test/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
disable_cgroup = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{}"
conf_dir = "{own}/cni"
"#,
        programs.display()
    )
}
