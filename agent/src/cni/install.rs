//! The agent's side: binary and network configuration put where the container runtime looks.
//!
//! Owns two files, the plugin's binary and [`CONFLIST`]. A runtime takes the first configuration it finds as the sign
//! that the node is ready for pods: the agent calls [`install`] only once the data plane was read back complete. Plugins
//! that run behind ours are other people's binaries: one of ours to chain that is not there is left out, because a runtime
//! that misses one starts no pod at all. Must never remove what it did not write.

mod list;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use self::list::List;
use crate::config::{Chained, CniPaths};

/// File name of the network configuration list; runtimes take the first in the order of bytes.
pub const CONFLIST: &str = "10-weft.conflist";
/// The plugin's file name, which is its `type` in configurations.
pub const BINARY: &str = "weft-cni";

/// The file's name once others' plugins are in it and ours is gone: no runtime takes it for a configuration.
const LEFT_BEHIND: &str = "10-weft.conflist.removed";

/// What an installation did, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Files written; those that were as they should be already are not among them.
    pub written: Vec<PathBuf>,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
    /// Types of the plugins that somebody else put behind ours.
    pub others: Vec<String>,
}

/// Puts the binary, then the network configuration in place; each appears whole or not at all, and what is as it
/// should be stays. So does what others put behind our entry.
pub fn install(paths: &CniPaths, socket: &Path) -> Result<Installed> {
    let CniPaths { bin_dir, conf_dir, binary, chain } = paths;
    let mut installed = Installed::default();
    let target = bin_dir.join(BINARY);
    if !same_content(binary, &target)? {
        let bytes = fs::read(binary).with_context(|| format!("read the plugin's binary {}", binary.display()))?;
        put(&target, &bytes, 0o755)?;
        installed.written.push(target);
    }
    let (present, missing): (Vec<Chained>, Vec<Chained>) = chain.iter().partition(|chained| chained.is_in(bin_dir));
    let target = conf_dir.join(CONFLIST);
    let found = fs::read(&target).ok().and_then(|bytes| List::read(&bytes));
    let others = found.as_ref().map(|found| found.others(chain)).unwrap_or_default();
    let wanted = list::wanted(socket, &present, found.as_ref(), &others);
    if !found.as_ref().is_some_and(|found| found.is(&wanted)) {
        put(&target, format!("{wanted:#}\n").as_bytes(), 0o644)?;
        installed.written.push(target.clone());
    }
    installed.warnings = earlier(conf_dir)?;
    installed.warnings.extend(missing.iter().map(|chained| chained.missing_from(bin_dir)));
    installed.others = others.into_iter().map(list::kind).collect();
    let without = installed.others.iter().filter(|other| !bin_dir.join(other).is_file());
    installed.warnings.extend(without.map(|other| no_binary(other, &target, bin_dir)));
    let before = found.map(|found| found.before()).unwrap_or_default();
    installed.warnings.extend(before.iter().map(|other| taken_out(other, &target)));
    Ok(installed)
}

/// Removes the network configuration, then the binary. A configuration with others' plugins in it is renamed, since
/// without a main plugin a runtime would be ready and start nothing; what is there under these names without being ours
/// stays. Both are said. Nothing there is a success.
pub fn remove(bin_dir: &Path, conf_dir: &Path) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let conflist = conf_dir.join(CONFLIST);
    match fs::read(&conflist).map(|bytes| List::read(&bytes)) {
        Ok(Some(list)) => warnings.extend(remove_list(&list, &conflist, &conf_dir.join(LEFT_BEHIND))?),
        Ok(None) => warnings.push(format!("{} was changed by somebody and stays: remove it", conflist.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", conflist.display())),
    }
    delete(&bin_dir.join(BINARY))?;
    Ok(warnings)
}

/// Deletes a configuration that is ours alone; else renames it, and says so.
fn remove_list(list: &List, conflist: &Path, left_behind: &Path) -> Result<Option<String>> {
    let mut others = list.before();
    others.extend(list.others(&[]).into_iter().map(list::kind));
    if others.is_empty() {
        return delete(conflist).map(|()| None);
    }
    let (from, to) = (conflist.display(), left_behind.display());
    fs::rename(conflist, left_behind).with_context(|| format!("rename {from} to {to}"))?;
    let others = others.join(", ");
    Ok(Some(format!(
        "{from} holds plugins of others ({others}): it was renamed to {to}, which runtimes do not read; remove it once \
         nobody needs it"
    )))
}

fn no_binary(other: &str, conflist: &Path, bin_dir: &Path) -> String {
    let (conflist, bin_dir) = (conflist.display(), bin_dir.display());
    format!(
        "{conflist} names the plugin {other}, which somebody else put there, and {bin_dir} has no such binary: the runtime \
         starts no pod; install {other} again, or remove its entry from the file"
    )
}

fn taken_out(other: &str, conflist: &Path) -> String {
    let conflist = conflist.display();
    format!(
        "{conflist} had the plugin {other} before weft-cni, which makes it another network: it was taken out; what is to \
         run with Weft goes behind weft-cni"
    )
}

/// Configurations that runtimes take before ours.
fn earlier(conf_dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(conf_dir).with_context(|| format!("list {}", conf_dir.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.as_str() < CONFLIST && is_configuration(name));
    names.sort();
    let warn = |name| {
        let shown = conf_dir.join(name);
        format!("{} sorts before {CONFLIST}: the runtime uses that network, remove it or move it away", shown.display())
    };
    Ok(names.iter().map(warn).collect())
}

fn is_configuration(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("conf" | "conflist" | "json"))
}

/// Writes beside the target, then renames: readers see the old or the new, and a running binary is not "text busy".
fn put(target: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let directory = target.parent().context("the target has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let name = target.file_name().context("the target has a name")?.to_string_lossy();
    // Begins with a dot and ends in no extension of configurations: no runtime takes it for one.
    // A process id is not enough: in containers two agents have the same one.
    let temporary = directory.join(format!(".{name}.{:016x}.new", fastrand::u64(..)));
    let written = write(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, target))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("write {}: check its directory's permissions and space", target.display()))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    // The umask must not decide whether the runtime may read it.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// True where both files hold the same; false where the second is missing.
fn same_content(a: &Path, b: &Path) -> Result<bool> {
    let shown = || format!("read the plugin's binary {}: is it built and beside weft-agent?", a.display());
    let mut one = File::open(a).with_context(shown)?;
    let Ok(mut other) = File::open(b) else { return Ok(false) };
    if one.metadata().with_context(shown)?.len() != other.metadata().map_or(u64::MAX, |metadata| metadata.len()) {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = one.read(&mut left).with_context(shown)?;
        if read == 0 {
            return Ok(true);
        }
        if other.read_exact(&mut right[..read]).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
