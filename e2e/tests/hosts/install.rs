//! The installer, in a directory that stands for a host's root.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use weft_e2e::lab::binaries;

use super::{PROGRAMS, checkout};

const CLUSTER: [&str; 5] = ["controller", "--pool", "10.244.0.0/16=24", "--pool", "fd44:5745::/48=64"];
const AGENT: [&str; 5] = ["agent", "--node", "a1", "--controller", "[fd87::1]:7887"];
/// What has to be there, with its mode. Secrets are their owner's only.
const FILES: [(&str, u32); 18] = [
    ("etc/NetworkManager/conf.d/90-weft.conf", 0o644),
    ("etc/systemd/network/05-weft.link", 0o644),
    ("etc/systemd/network/05-weft.network", 0o644),
    ("etc/systemd/system/weft-agent.service", 0o644),
    ("etc/systemd/system/weft-controller.service", 0o644),
    ("etc/weft/agent.yaml", 0o644),
    ("etc/weft/controller.yaml", 0o644),
    ("etc/weft/operator/operator.key", 0o600),
    ("etc/weft/token", 0o600),
    ("usr/local/bin/weft", 0o755),
    ("usr/local/bin/weft-agent", 0o755),
    ("usr/local/bin/weft-cni", 0o755),
    ("usr/local/bin/weft-controller", 0o755),
    ("usr/local/share/bash-completion/completions/weft-agent", 0o644),
    ("usr/local/share/man/man1/weft-controller-init.1", 0o644),
    ("usr/local/share/man/man1/weft-peers.1", 0o644),
    ("var/lib/weft-controller/ca.crt", 0o644),
    ("var/lib/weft-controller/ca.key", 0o600),
];

/// A directory that stands for a root, and one with the programs to install; both are gone with this.
pub(crate) struct Root {
    root: PathBuf,
    programs: PathBuf,
}

impl Root {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hosts-{name}-{}", std::process::id()));
        let programs = root.with_extension("programs");
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&programs)?;
        for program in PROGRAMS {
            // Links of its own, so that a build beside this test changes nothing in it.
            fs::hard_link(binaries::find(program)?, programs.join(program))?;
        }
        Ok(Self { root, programs })
    }

    /// With a controller and an agent in it.
    pub(crate) fn installed(name: &str) -> Result<Self> {
        let root = Self::new(name)?;
        let token = root.root.with_extension("token");
        fs::write(&token, "weft1.secret\n")?;
        root.succeeds(&CLUSTER)?;
        root.succeeds(&[&AGENT[..], &["--token-file", &token.to_string_lossy()]].concat())?;
        fs::remove_file(token)?;
        Ok(root)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(checkout().join("deploy/hosts/install.sh"));
        command.args(arguments).arg("--root").arg(&self.root);
        if arguments[0] != "uninstall" {
            command.arg("--from").arg(&self.programs);
        }
        command.output().context("cannot start the installer")
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(arguments)?;
        ensure!(status.success(), "{arguments:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?)
    }

    fn fails(&self, arguments: &[&str]) -> Result<String> {
        let done = self.run(arguments)?;
        ensure!(!done.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8(done.stderr)?)
    }

    /// Every file with its inode: what is replaced gets another one.
    fn files(&self) -> Result<BTreeMap<PathBuf, u64>> {
        fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, u64>) -> Result<()> {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    walk(&entry.path(), found)?;
                } else {
                    found.insert(entry.path(), entry.metadata()?.ino());
                }
            }
            Ok(())
        }
        let mut found = BTreeMap::new();
        walk(&self.root, &mut found)?;
        Ok(found)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for directory in [&self.root, &self.programs] {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

#[test]
fn everything_is_in_place_with_its_mode_and_works_from_there() -> Result<()> {
    let root = Root::installed("modes")?;
    for (file, mode) in FILES {
        let found = fs::metadata(root.path(file)).with_context(|| file.to_owned())?.permissions().mode() & 0o7777;
        ensure!(found == mode, "{file} has mode {found:o}, not {mode:o}");
    }
    for (program, argument) in [("weft", "--version"), ("weft-agent", "--version"), ("weft-cni", "--version")] {
        let done = Command::new(root.path("usr/local/bin").join(program)).arg(argument).output()?;
        let printed = String::from_utf8(done.stdout)?;
        ensure!(printed == format!("{program} {}\n", env!("CARGO_PKG_VERSION")), "{program} is {printed:?}");
    }
    let mut check = Command::new(root.path("usr/local/bin/weft-controller"));
    let checked = check.args(["check-config", "--config"]).arg(root.path("etc/weft/controller.yaml")).output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let config = fs::read_to_string(root.path("etc/weft/controller.yaml"))?;
    ensure!(config.contains("dataDir: '/var/lib/weft-controller'"), "the root's own path got into it:\n{config}");
    let agent = fs::read_to_string(root.path("etc/weft/agent.yaml"))?;
    ensure!(agent.contains("\nnode: 'a1'\n") && agent.contains("\ncontrollers: ['[fd87::1]:7887']\n"), "{agent}");
    Ok(())
}

#[test]
fn a_second_run_changes_nothing_and_an_upgrade_only_what_differs() -> Result<()> {
    let root = Root::installed("again")?;
    let before = root.files()?;
    root.succeeds(&CLUSTER)?;
    root.succeeds(&AGENT)?;
    root.succeeds(&["agent"])?;
    ensure!(root.files()? == before, "a second run replaced something");

    let (program, unit) = (root.path("usr/local/bin/weft-cni"), root.path("etc/systemd/system/weft-agent.service"));
    let config = root.path("etc/weft/agent.yaml");
    for path in [&program, &unit, &config] {
        fs::write(path, "an older one")?;
    }
    root.succeeds(&["agent"])?;
    ensure!(fs::read(&program)? == fs::read(root.programs.join("weft-cni"))?, "the program was not replaced");
    ensure!(fs::read(&unit)? == fs::read(checkout().join("deploy/hosts/weft-agent.service"))?, "the unit was not");
    ensure!(fs::read_to_string(&config)? == "an older one", "the operator's configuration was overwritten");
    let after = root.files()?;
    let replaced: Vec<_> = after.iter().filter(|(path, inode)| before.get(*path) != Some(inode)).collect();
    ensure!(replaced.len() == 2, "replaced: {replaced:?}");
    Ok(())
}

#[test]
fn removal_keeps_the_cluster_unless_told_otherwise_and_then_leaves_nothing() -> Result<()> {
    let root = Root::installed("removal")?;
    let told = root.succeeds(&["uninstall"])?;
    ensure!(told.contains("Kept ") && told.contains("--purge"), "it does not say what it kept:\n{told}");
    let left: Vec<_> = root.files()?.into_keys().collect();
    let is_kept = |path: &PathBuf| {
        [root.path("etc/weft"), root.path("var/lib/weft-controller")].iter().any(|dir| path.starts_with(dir))
    };
    ensure!(left.iter().all(is_kept), "programs or units are left: {left:?}");
    ensure!(root.path("var/lib/weft-controller/ca.key").exists(), "the cluster's authority is gone");
    root.succeeds(&["uninstall", "--purge"])?;
    ensure!(root.files()?.is_empty(), "left: {:?}", root.files()?);
    root.succeeds(&["uninstall", "--purge"])?;
    Ok(())
}

#[test]
fn mistakes_are_named_before_anything_is_made() -> Result<()> {
    let root = Root::new("mistakes")?;
    for (arguments, word) in [
        (&["agent", "--node", "A_1", "--controller", "h:1"][..], "A_1"),
        (&["agent", "--node", "a1", "--controller", "h:1|e date"], "h:1|e date"),
        (&["agent", "--node"], "--node"),
        (&["agent", "--colour", "red"], "--colour"),
        (&["uninstall", "everything"], "everything"),
    ] {
        let error = root.fails(arguments)?;
        ensure!(error.contains(word), "{arguments:?}: {error}");
    }
    ensure!(root.files()?.is_empty(), "left: {:?}", root.files()?);
    for (arguments, word) in [
        (&["controller"][..], "pools"),
        (&["controller", "--pool", "10.244.0.0/16"], "10.244.0.0/16"),
        (&["agent", "--controller", "h:1"], "--node"),
        (&["agent", "--node", "a1"], "--controller"),
        (&["agent", "--node", "a1", "--controller", "h:1", "--token-file", "/nowhere"], "/nowhere"),
    ] {
        let error = root.fails(arguments)?;
        ensure!(error.contains(word), "{arguments:?}: {error}");
    }
    ensure!(!root.path("etc/weft/controller.yaml").exists(), "a cluster was made of a mistake");
    Ok(())
}
