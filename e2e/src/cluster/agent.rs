//! An agent on its node.
//!
//! Owns its directories and its process. Everything it keeps is below the host's directory, which outlives a reboot.

use std::{ffi::OsString, fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::{net::UnixDatagram, process::Command, sync::Mutex};

use super::weft::Weft;
use crate::lab::{Build, Host, Process, wait};

/// An agent that was installed on a host.
#[derive(Debug)]
pub struct Agent {
    host: Arc<Host>,
    controller: std::sync::Mutex<String>,
    directory: PathBuf,
    options: std::sync::Mutex<Vec<String>>,
    confined: std::sync::atomic::AtomicBool,
    open_files: std::sync::Mutex<Option<u32>>,
    fault: std::sync::Mutex<Option<&'static str>>,
    build: std::sync::Mutex<Build>,
    process: Mutex<Option<Process>>,
}

impl Agent {
    /// Puts the token on the host; starts nothing.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn install(host: Arc<Host>, controller: &str, token: &str) -> Result<Self> {
        let directory = host.directory().join("agent");
        for part in ["state", "cni-bin", "cni-conf"] {
            fs::create_dir_all(directory.join(part)).with_context(|| format!("{}: no {part}", host.name()))?;
        }
        let path = directory.join("token");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        writeln!(file, "{token}").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            host,
            controller: controller.to_owned().into(),
            directory,
            options: Default::default(),
            confined: Default::default(),
            open_files: Default::default(),
            fault: Default::default(),
            build: Default::default(),
            process: Mutex::default(),
        })
    }

    /// Its host.
    pub const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// Where it puts the CNI configuration.
    pub fn cni_configuration(&self) -> PathBuf {
        self.directory.join("cni-conf")
    }

    /// Where it puts the CNI plugin.
    pub fn cni_programs(&self) -> PathBuf {
        self.directory.join("cni-bin")
    }

    /// The `weft` command on this node, over the agent's socket.
    pub fn weft(&self) -> Weft {
        let socket = self.socket().to_string_lossy().into_owned();
        Weft::new(Arc::clone(&self.host), vec!["--socket".to_owned(), socket])
    }

    /// Where its runtime would cache CNI results.
    pub fn cni_results(&self) -> PathBuf {
        self.directory.join("cni-results")
    }

    /// More flags, from its next start on.
    pub fn set_options(&self, options: &[&str]) {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        *self.options.lock().expect("nobody panics while holding it") = options;
    }

    /// Where it finds the controller, as `HOST:PORT`, from its next start on.
    pub fn set_controller(&self, address: &str) {
        address.clone_into(&mut self.controller.lock().expect("nobody panics while holding it"));
    }

    /// Without CAP_SYS_ADMIN, as its systemd unit runs it, from its next start on.
    pub fn confine(&self) {
        self.confined.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// How many files it may have open, from its next start on.
    pub fn limit_open_files(&self, limit: u32) {
        *self.open_files.lock().expect("nobody panics while holding it") = Some(limit);
    }

    /// Has it kill itself at a step, from its next start on; or no more.
    pub fn set_fault(&self, step: Option<&'static str>) {
        *self.fault.lock().expect("nobody panics while holding it") = step;
    }

    /// Which build of it runs, from its next start on.
    pub fn set_build(&self, build: Build) {
        *self.build.lock().expect("nobody panics while holding it") = build;
    }

    /// What systemd would hear of it, from its next start on (sd_notify(3)).
    ///
    /// # Errors
    /// Where the socket cannot be bound.
    pub fn service_manager(&self) -> Result<UnixDatagram> {
        UnixDatagram::bind(self.notify_socket()).context("cannot bind the socket of a service manager")
    }

    fn notify_socket(&self) -> PathBuf {
        self.directory.join("notify")
    }

    /// Waits for its end, however it comes.
    ///
    /// # Errors
    /// Where it does not run, or does not end in time.
    pub async fn ended(&self) -> Result<()> {
        let ended = async { anyhow::Ok(self.take().await?.wait().await?) };
        tokio::time::timeout(wait::limit(wait::PATIENCE), ended).await.context("the agent did not end")??;
        Ok(())
    }

    /// Starts it. Does not wait for it.
    ///
    /// # Errors
    /// Where it runs already or cannot be started.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        if process.is_some() {
            bail!("the agent of {} runs already", self.host.name());
        }
        *process = Some(self.host.spawn("weft-agent", self.command()?)?);
        Ok(())
    }

    /// Waits until its kernel was read back to hold the membership.
    ///
    /// # Errors
    /// When it ends, or takes too long, with what it says of itself.
    pub async fn ready(&self) -> Result<()> {
        let what = format!("the agent of {} to be ready", self.host.name());
        wait::until(&what, wait::PATIENCE, async || {
            self.alive().await?;
            let status = self.weft().status().await?;
            if status.ready { Ok(()) } else { bail!("{}: {}", status.reason, status.message) }
        })
        .await
    }

    /// SIGTERM and its end.
    ///
    /// # Errors
    /// Where it does not run, or does not end well.
    pub async fn stop(&self) -> Result<()> {
        self.take().await?.stop().await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn kill(&self) -> Result<()> {
        self.take().await?.kill().await
    }

    /// Sends it a signal, such as SIGSTOP.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.lock().await;
        process.as_ref().with_context(|| format!("the agent of {} was stopped", self.host.name()))?.signal(signal)
    }

    /// Fails where it does not run.
    ///
    /// # Errors
    /// As said.
    pub async fn alive(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let running = process.as_mut().with_context(|| format!("the agent of {} was stopped", self.host.name()))?;
        if let Some(status) = running.ended()? {
            bail!("the agent of {} ended with {status}, see {}", self.host.name(), running.log().display());
        }
        Ok(())
    }

    /// What its present run has logged.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn log(&self) -> Result<PathBuf> {
        let process = self.process.lock().await;
        let running = process.as_ref().with_context(|| format!("the agent of {} was stopped", self.host.name()))?;
        Ok(running.log().to_owned())
    }

    async fn take(&self) -> Result<Process> {
        self.process.lock().await.take().with_context(|| format!("the agent of {} does not run", self.host.name()))
    }

    /// The program, with what it may not do or have.
    fn bounded(&self, program: &std::path::Path) -> Command {
        let mut argv: Vec<OsString> = Vec::new();
        if let Some(limit) = *self.open_files.lock().expect("nobody panics while holding it") {
            argv.extend(["prlimit".into(), format!("--nofile={limit}").into(), "--".into()]);
        }
        if self.confined.load(std::sync::atomic::Ordering::Relaxed) {
            argv.extend(["setpriv", "--bounding-set=-sys_admin", "--"].map(OsString::from));
        }
        argv.push(program.into());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        command
    }

    fn command(&self) -> Result<Command> {
        let build = *self.build.lock().expect("nobody panics while holding it");
        let program = build.find("weft-agent")?;
        let mut command = self.bounded(&program);
        let controller = self.controller.lock().expect("nobody panics while holding it").clone();
        command.args(["run", "--node", self.host.name(), "--controller", &controller]);
        command.arg("--token-file").arg(self.directory.join("token"));
        command.arg("--state-dir").arg(self.state()).arg("--socket").arg(self.socket());
        command.arg("--cni-bin-dir").arg(self.cni_programs()).arg("--cni-conf-dir").arg(self.cni_configuration());
        command.arg("--cni-binary").arg(build.find("weft-cni")?).arg("--cni-results-dir").arg(self.cni_results());
        if let Some(step) = *self.fault.lock().expect("nobody panics while holding it") {
            command.env("WEFT_FAULT", step);
        }
        if self.notify_socket().exists() {
            command.env("NOTIFY_SOCKET", self.notify_socket());
        }
        command.args(self.options.lock().expect("nobody panics while holding it").iter());
        Ok(command)
    }
}
