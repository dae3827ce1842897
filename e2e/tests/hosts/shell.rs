//! The shell of an administrator on a plain host of the lab.
//!
//! A host of the lab has a network of its own but shares the machine's files; behind this shell /etc, /run,
//! /usr/local, /opt and /var are the host's own too. Nothing it does is seen outside.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use weft_e2e::lab::Namespace;

/// For one block of commands.
const PATIENCE: Duration = Duration::from_secs(120);
/// Printed behind each block, on a line of its own whatever the block printed last.
const DONE: &str = "-- the block is done --";

/// Gives the shell files of its own. $HOME is the host's directory.
const PRELUDE: &str = r#"
exec 2>&1
set -euo pipefail
own() {
    [ -d "$1" ] || { echo "this machine has no $1"; exit 1; }
    mkdir -p "$FILES$1"
    if [ "${2:-}" = copy ]; then cp -a "$1/." "$FILES$1/" 2>/dev/null || true; fi
    mount --bind "$FILES$1" "$1"
}
own /etc copy
for directory in /usr/local /opt /var/lib /var/log; do own $directory; done
mkdir -p "$FILES/run/lab"
mount --bind /run/lab "$FILES/run/lab"
mount --rbind "$FILES/run" /run
# There is no network of sshd in the lab: the other host's directory is reached by its address.
scp() { ln -f "$1" "$HOME/../${2#root@}/$1"; }
cd "$HOME"
"#;

/// Stands in for ping(8) where it is not installed: a closed port answers as well.
const PING: &str = r#"#!/bin/bash
answer=$(timeout 10 bash -c "exec 3<>/dev/tcp/${!#}/9" 2>&1)
case $answer in *refused*) echo "${!#} answers" ;; *) echo "${!#}: $answer"; exit 1 ;; esac
"#;

/// A running shell. It ends with the lab.
pub(crate) struct Shell {
    name: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Shell {
    /// Opens a shell on `net`; its directory is `home`, which others reach as their `../ADDRESS:`.
    pub(crate) async fn open(name: &str, net: &Namespace, home: &Path) -> Result<Self> {
        let tools = home.with_extension("tools");
        std::fs::create_dir_all(home)?;
        std::fs::create_dir_all(&tools)?;
        let mut path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        if !["/bin/ping", "/usr/bin/ping"].iter().any(|ping| Path::new(ping).exists()) {
            std::fs::write(tools.join("ping"), PING)?;
            std::process::Command::new("chmod").arg("755").arg(tools.join("ping")).status()?;
            path = format!("{}:{path}", tools.display());
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "bash", "--noprofile", "--norc"]);
        command.env("PATH", path).env("HOME", home).env("FILES", home.with_extension("files"));
        for variable in ["CARGO_TARGET_DIR", "WEFT_CONTROLLER", "WEFT_IDENTITY", "WEFT_SOCKET", "WEFT_NODE", "WEFT_LOG"]
        {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = net.enter_runtime(move || command.spawn()).context("cannot start a shell")?;
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut shell = Self { name: name.to_owned(), input, output, _child: child };
        shell.type_in(PRELUDE).await?;
        shell.run("true").await?;
        Ok(shell)
    }

    /// Runs commands as if typed, each of which has to succeed; returns what they print.
    pub(crate) async fn run(&mut self, commands: &str) -> Result<String> {
        println!("[{}]\n{commands}", self.name);
        self.type_in(&format!("{{\n{commands}\n}} </dev/null\nprintf '\\n%s\\n' '{DONE}'\n")).await?;
        let mut printed = String::new();
        loop {
            let line = timeout(PATIENCE, self.output.next_line()).await;
            match line.with_context(|| format!("{} hangs in:\n{commands}\n{printed}", self.name))?? {
                Some(line) if line == DONE => return Ok(printed.trim_end().to_owned()),
                Some(line) => {
                    println!("    {line}");
                    printed.push_str(&line);
                    printed.push('\n');
                }
                None => bail!("on {} a command failed in:\n{commands}\nIt printed:\n{printed}", self.name),
            }
        }
    }

    async fn type_in(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).await.with_context(|| format!("the shell of {} has ended", self.name))
    }
}
