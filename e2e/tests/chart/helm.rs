//! helm, as `./dev cluster up` builds it, or the one that is installed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Values beside the chart's own defaults.
pub(crate) const VARIANTS: [&str; 3] = ["dual-stack", "one-node", "other-allocator"];

/// Where the chart is.
pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart")
}

/// The arguments that name a file of values; none for the defaults.
pub(crate) fn values(variant: Option<&str>) -> Vec<String> {
    let file = |name| chart().join("ci").join(format!("{name}.yaml")).display().to_string();
    variant.map_or_else(Vec::new, |name| vec!["--values".to_owned(), file(name)])
}

/// The defaults, and each of the variants.
pub(crate) fn all() -> impl Iterator<Item = Option<&'static str>> {
    [None].into_iter().chain(VARIANTS.map(Some))
}

/// Renders what is left out where there is no cluster.
pub(crate) const WITH_HOOK: [&str; 2] = ["--set", "uninstall.render=true"];

/// What `helm template` prints with these arguments, or what it complains of.
pub(crate) fn template(arguments: &[String]) -> Result<String, String> {
    let words = ["template", "weft", &chart().display().to_string(), "--namespace", "weft-system"].map(str::to_owned);
    run(&[&words[..], arguments].concat())
}

/// Standard output of helm, or its standard error.
pub(crate) fn run(arguments: &[String]) -> Result<String, String> {
    let output = Command::new(program()).args(arguments).output().expect("helm is built by `./dev cluster up`");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("helm writes UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr) + &text(output.stdout)) }
}

fn program() -> PathBuf {
    let below = |variable: &str, rest: &str| env::var_os(variable).map(|start| PathBuf::from(start).join(rest));
    let cache =
        below("WEFT_CACHE", "").or_else(|| below("XDG_CACHE_HOME", "weft")).or_else(|| below("HOME", ".cache/weft"));
    cache.map(|cache| cache.join("bin/helm")).filter(|helm| helm.exists()).unwrap_or_else(|| "helm".into())
}
