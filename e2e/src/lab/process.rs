//! Children of the lab, and what they print.
//!
//! Owns a child's life and its log file. A child never outlives the sandbox: it dies with the sandbox's first process.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};

use super::{namespace::Namespace, sandbox::STATE, wait::limit};

/// How long a child may take to end when asked to.
const GRACE: Duration = Duration::from_secs(20);
/// Lines of each log that a failure shows.
const TAIL: usize = 60;

static LOGS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in `namespace`; what it prints is appended to the log `name`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(namespace: &Namespace, name: &str, command: Command) -> Result<Self> {
        Self::spawn_by(name, command, |mut command| namespace.enter_runtime(move || command.spawn()))
    }

    /// Starts `command` in the sandbox's own namespace; what it prints is appended to the log `name`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn_here(name: &str, command: Command) -> Result<Self> {
        Self::spawn_by(name, command, |mut command| command.spawn())
    }

    fn spawn_by(name: &str, mut command: Command, spawn: impl FnOnce(Command) -> io::Result<Child>) -> Result<Self> {
        let (log, file) = open_log(name)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).env("NO_COLOR", "1").kill_on_drop(true);
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id, inside the sandbox.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// Where the kernel cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end, however it comes.
    ///
    /// # Errors
    /// Where the kernel cannot say.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.with_context(|| format!("{} has ended already, see {}", self.name, self.log.display()))?;
        kill_process(id, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGTERM, then its end.
    ///
    /// # Errors
    /// Where it does not end in time, or not with success.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let grace = limit(GRACE);
        let Ok(status) = timeout(grace, self.child.wait()).await else {
            bail!("{} did not end within {grace:?} of SIGTERM", self.name);
        };
        let status = status?;
        if !status.success() {
            bail!("{} ended with {status} after SIGTERM, see {}", self.name, self.log.display());
        }
        Ok(())
    }

    /// SIGKILL, then its end.
    ///
    /// # Errors
    /// Where it has ended already.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait().await?;
        Ok(())
    }
}

/// Runs a command in `namespace` to its end, with `input` on its standard input.
///
/// # Errors
/// Where it cannot be started or does not end within a minute, or [`limit`] of it. Its exit status is the caller's to judge.
pub(super) async fn output(namespace: &Namespace, mut command: Command, input: &[u8]) -> Result<Output> {
    let name = command.as_std().get_program().to_owned();
    let name = Path::new(&name).file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = namespace.enter_runtime(move || command.spawn()).with_context(|| format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A child that does not read its input may close it early.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let minute = limit(Duration::from_secs(60));
    let ended = timeout(minute, child.wait_with_output()).await;
    ended
        .with_context(|| format!("{name} did not end within {minute:?}"))?
        .with_context(|| format!("cannot run {name}"))
}

/// Prints the end of every log, for a failure's report.
pub fn print_logs() {
    for path in LOGS.lock().expect("nobody panics while holding it").iter() {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(TAIL)..];
        eprintln!("---- {} ({} of {} lines)", path.display(), shown.len(), lines.len());
        shown.iter().for_each(|line| eprintln!("{line}"));
    }
}

fn open_log(name: &str) -> Result<(PathBuf, File)> {
    let directory = Path::new(STATE).join("logs");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.log"));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let mut logs = LOGS.lock().expect("nobody panics while holding it");
    if !logs.contains(&path) {
        logs.push(path.clone());
    }
    Ok((path, file))
}
