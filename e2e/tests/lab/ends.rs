//! How labs end: whatever kills one, nothing of it is left; and how they live side by side.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weft_e2e::lab::{Lab, LabSpec, harness, sandbox, wait::limit};

/// Names the lab of one test in the environment of everything in it.
const MARK: &str = "WEFT_LAB_TEST_MARK";
const READY: &str = "the lab is up";

/// Not a test: the lab that others start and kill. It holds processes in two hosts until its standard input ends.
#[test]
#[ignore = "a part of the other tests"]
fn held_lab() {
    let held = harness::run(async || {
        let lab = Lab::start(LabSpec::default()).await?;
        let sleep = || {
            let mut command = tokio::process::Command::new("sleep");
            command.arg("1000");
            command
        };
        let _sleepers = (lab.host("a1").spawn("sleep", sleep())?, lab.host("b1").spawn("sleep", sleep())?);
        println!("\n{READY}");
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        Ok(())
    });
    held.expect("the lab starts and ends");
}

/// Not a test: a program outside that has started a lab.
#[test]
#[ignore = "a part of the other tests"]
fn parent_of_held_lab() {
    let mut child = held_command().expect("this machine can have labs").spawn().expect("the lab starts");
    child.wait().expect("it is our child");
}

fn held_command() -> Result<Command> {
    sandbox::check()?;
    let arguments = ["--exact", "ends::held_lab", "--ignored", "--nocapture", "--test-threads=1"];
    Ok(sandbox::command(env::current_exe()?, arguments))
}

/// A running lab with its mark and the end of its output.
struct Held {
    child: Child,
    mark: String,
    _output: BufReader<ChildStdout>,
}

impl Held {
    fn start(mut command: Command) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        command.env(MARK, &mark).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            ensure!(output.read_line(&mut line)? > 0, "the lab ended before it was up");
        }
        Ok(Self { child, mark, _output: output })
    }

    /// Everything that carries the mark.
    fn processes(&self) -> BTreeSet<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let ids = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        ids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|id| {
                let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            })
            .collect()
    }

    /// Waits until it consists of so many. The kernel announces the end of a process to its parent only, and these have none of
    /// ours; and one that has just been started has no environment yet.
    fn expect_processes(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        loop {
            let found = self.processes();
            if found.len() == count {
                return Ok(());
            }
            ensure!(
                start.elapsed() < limit(Duration::from_secs(30)),
                "{count} processes are wanted, these are there: {found:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The lab's first process: the only one with id 1 in its own PID namespace.
    fn first(&self) -> Option<i32> {
        self.processes().into_iter().find(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            ids.is_some_and(|ids| ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1"))
        })
    }

    fn expect_gone(mut self) -> Result<()> {
        self.child.wait()?;
        self.expect_processes(0)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains("weft-lab"), "a mount of a lab is visible outside");
        Ok(())
    }
}

fn kill(id: i32) -> Result<()> {
    kill_process(Pid::from_raw(id).context("no process")?, Signal::KILL).context("cannot kill")
}

#[test]
fn kill_9_of_the_lab_leaves_nothing() -> Result<()> {
    let held = Held::start(held_command()?)?;
    // unshare, the lab, and two sleepers.
    held.expect_processes(4)?;
    kill(held.first().context("the lab has a first process")?)?;
    held.expect_gone()
}

#[test]
fn kill_9_of_its_starter_leaves_nothing() -> Result<()> {
    let held = Held::start(held_command()?)?;
    kill(i32::try_from(held.child.id())?)?;
    held.expect_gone()
}

#[test]
fn kill_9_of_the_program_that_started_it_leaves_nothing() -> Result<()> {
    sandbox::check()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", "ends::parent_of_held_lab", "--ignored", "--nocapture"]);
    let held = Held::start(command)?;
    ensure!(held.first().is_some(), "the lab has no first process");
    kill(i32::try_from(held.child.id())?)?;
    held.expect_gone()
}

#[test]
fn two_labs_live_side_by_side_and_end_by_themselves() -> Result<()> {
    let mut labs = [Held::start(held_command()?)?, Held::start(held_command()?)?];
    for held in &mut labs {
        drop(held.child.stdin.take());
        let status = held.child.wait()?;
        ensure!(status.success(), "a lab ended with {status}");
    }
    labs.into_iter().try_for_each(Held::expect_gone)
}
