//! `kubectl weft`, as a person has it on a machine that is no node: the program in the PATH under kubectl's name for it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use weft_e2e::{
    cluster::Peer,
    kind::{Kind, description::directory, shell},
    kind_test,
    lab::binaries,
};

/// A directory that holds nothing but the plugin.
fn directory_with_plugin() -> Result<PathBuf> {
    let directory = directory().join("plugin");
    std::fs::create_dir_all(&directory)?;
    let plugin = directory.join("kubectl-weft");
    let _ = std::fs::remove_file(&plugin);
    std::os::unix::fs::symlink(binaries::find("weft")?, &plugin)?;
    Ok(directory)
}

/// Runs kubectl with a directory before all others in its PATH.
async fn kubectl(kind: &Kind, first: &Path, words: &[&str]) -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&path)))?;
    let mut command = Command::new(kind.description().bin.join("kubectl"));
    command.args(words).env("PATH", path).env("KUBECONFIG", &kind.description().kubeconfig);
    // What else tells the program whom to ask.
    command.env_remove("WEFT_CONTROLLER").env_remove("WEFT_IDENTITY");
    shell::run(command).await
}

kind_test!(kubectl_weft_in_the_path_shows_what_the_controller_shows, async |kind: &Kind| {
    let directory = directory_with_plugin()?;
    let listed = kubectl(kind, &directory, &["plugin", "list"]).await?;
    ensure!(listed.contains("kubectl-weft"), "kubectl does not find it: {listed}");
    let context = format!("kind-{}", kind.description().name);
    for more in [&[][..], &["--context", &context]] {
        let told = kubectl(kind, &directory, &[&["weft", "peers", "--output", "json"], more].concat()).await?;
        let mut told: Vec<Peer> = serde_json::from_str(&told).with_context(|| told.clone())?;
        let mut shown = kind.peers().await?;
        for list in [&mut told, &mut shown] {
            list.sort_by(|one, other| one.node.cmp(&other.node));
        }
        ensure!(told.len() == kind.nodes().count() && told.len() == shown.len(), "{told:?} and {shown:?}");
        for (told, shown) in told.iter().zip(&shown) {
            let [told, shown] =
                [told, shown].map(|peer| (&peer.node, &peer.state, &peer.pod_cidrs, &peer.underlay_addresses));
            ensure!(told == shown, "kubectl weft shows {told:?}, the controller {shown:?}");
        }
    }
    let table = kubectl(kind, &directory, &["weft", "peers"]).await?;
    ensure!(table.starts_with("NODE"), "{table}");
    kubectl(kind, &directory, &["weft", "status"]).await?;
    let refused = kubectl(kind, &directory, &["weft", "peers", "--context", "nowhere"]).await;
    let said = format!("{:#}", refused.err().context("a context that is not there was taken")?);
    ensure!(said.contains("nowhere"), "{said}");
    Ok(())
});
