//! The controller on its host.
//!
//! Owns its data directory and its process: set up once, then started, stopped, killed.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use tokio::{process::Command, sync::Mutex};

use super::weft::Weft;
use crate::lab::{Build, CONTROL, Host, Lab, Process, wait};

/// The port agents and operators connect to.
const PORT: u16 = 7887;
/// Where the controller of a default lab is reached.
pub const DEFAULT_CONTROLLER: &str = "10.87.0.11:7887";

/// A controller that was set up.
#[derive(Debug)]
pub struct Controller {
    host: Arc<Host>,
    directory: PathBuf,
    address: String,
    build: std::sync::Mutex<Build>,
    open_files: std::sync::Mutex<Option<u32>>,
    process: Mutex<Option<Process>>,
}

impl Controller {
    /// Sets it up with `weft-controller init`.
    ///
    /// # Errors
    /// Where that fails.
    pub async fn install(lab: &Lab, build: Build) -> Result<Self> {
        let (host, spec) = (lab.host(CONTROL), lab.spec());
        let directory = host.directory().join("controller");
        let address = std::net::SocketAddr::new(host.address(spec.outer), PORT).to_string();
        let mut command = Command::new(build.find("weft-controller")?);
        command.arg("init").arg("--data-dir").arg(&directory).args(["--listen", &address]);
        command.args(["--server-name", &host.address(spec.outer).to_string()]);
        command.args(["--mode", &spec.mode.to_string(), "--outer", &spec.outer.to_string().to_lowercase()]);
        for (pool, prefix) in &spec.pools {
            command.args(["--pool", &format!("{pool}={prefix}")]);
        }
        let done = host.output(command, &[]).await?;
        if !done.status.success() {
            bail!("weft-controller init ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(Self { host, directory, address, build: build.into(), open_files: None.into(), process: Mutex::default() })
    }

    /// Which build of it runs, from its next start on.
    pub fn set_build(&self, build: Build) {
        *self.build.lock().expect("nobody panics while holding it") = build;
    }

    /// How many files it may have open, from its next start on.
    pub fn limit_open_files(&self, limit: u32) {
        *self.open_files.lock().expect("nobody panics while holding it") = Some(limit);
    }

    /// One more name or address that agents may know it by, from its next start on.
    ///
    /// # Errors
    /// Where its configuration cannot be written, or names none yet.
    pub fn add_server_name(&self, name: &str) -> Result<()> {
        let names = "serverNames: [";
        self.configure(|before| {
            ensure!(before.contains(names), "the controller's configuration names no {names}");
            Ok(before.replace(names, &format!("{names}\"{name}\", ")))
        })
    }

    /// Where the addresses of nodes may lie whose agents connect from elsewhere, from its next start on.
    ///
    /// # Errors
    /// Where its configuration cannot be written.
    pub fn set_underlay_network(&self, network: &str) -> Result<()> {
        self.configure(|before| {
            let others = before.lines().filter(|line| !line.starts_with("underlayNetworks"));
            Ok(others.map(|line| format!("{line}\n")).collect::<String>() + &format!("underlayNetworks: [{network}]\n"))
        })
    }

    fn configure(&self, change: impl FnOnce(String) -> Result<String>) -> Result<()> {
        let path = self.directory.join("config.yaml");
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, change(before)?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where agents and operators reach it, as `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its data directory.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The `weft` command with an operator's certificate, on the controller's host.
    pub fn weft(&self) -> Weft {
        let identity = self.directory.join("operator").to_string_lossy().into_owned();
        let arguments = vec!["--controller".to_owned(), self.address.clone(), "--identity".to_owned(), identity];
        Weft::new(Arc::clone(&self.host), arguments)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// Where it runs already, ends, or does not answer.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        if process.is_some() {
            bail!("the controller runs already");
        }
        let mut command = self.command()?;
        command.arg("run").arg("--config").arg(self.directory.join("config.yaml"));
        let running = process.insert(self.host.spawn("weft-controller", command)?);
        wait::until("the controller to answer", wait::PATIENCE, async || {
            if let Some(status) = running.ended()? {
                bail!("the controller ended with {status}, see {}", running.log().display());
            }
            self.weft().run(&["status"]).await.map(drop)
        })
        .await
    }

    /// The program, with its limits.
    fn command(&self) -> Result<Command> {
        let build = *self.build.lock().expect("nobody panics while holding it");
        let program = build.find("weft-controller")?;
        let Some(limit) = *self.open_files.lock().expect("nobody panics while holding it") else {
            return Ok(Command::new(program));
        };
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()]).arg(program);
        Ok(command)
    }

    /// A certificate of another operator, in a directory of its own.
    ///
    /// # Errors
    /// Where it is not made.
    pub async fn make_operator(&self, name: &str, directory: &std::path::Path) -> Result<()> {
        let mut command = Command::new(Build::Present.find("weft-controller")?);
        command.args(["operator", "--name", name, "--data-dir"]).arg(&self.directory).arg("--out").arg(directory);
        let done = self.host.output(command, &[]).await?;
        if !done.status.success() {
            bail!("weft-controller operator: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// SIGTERM and its end.
    ///
    /// # Errors
    /// Where it does not run, or does not end well.
    pub async fn stop(&self) -> Result<()> {
        self.process.lock().await.take().context("the controller does not run")?.stop().await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn kill(&self) -> Result<()> {
        self.process.lock().await.take().context("the controller does not run")?.kill().await
    }

    /// A join token for one node.
    ///
    /// # Errors
    /// Where the controller refuses.
    pub async fn token(&self, node: &str) -> Result<String> {
        let printed = self.weft().run(&["token", "create", node]).await?;
        let word = printed.split(|c: char| c.is_whitespace() || c == '"').find(|word| word.starts_with("weft1."));
        Ok(word.with_context(|| format!("`weft token create` printed no token: {printed:?}"))?.to_owned())
    }
}
