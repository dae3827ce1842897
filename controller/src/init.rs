//! `weft-controller init`: everything a new cluster begins with.
//!
//! Owns the data directory's first contents: the CA, an operator's certificate and the configuration. Must never
//! overwrite any of it: a second CA would lock every node out.

mod key;

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use weft_program::config::Problems;

use crate::{
    config::{Config, Options, StoreLocation},
    pki::{Authority, generate_key},
};

/// How long an operator's certificate is good for unless told otherwise.
const OPERATOR_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// What `init` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InitOptions {
    /// The options of `run`, to be written into config.yaml
    #[command(flatten)]
    pub options: Options,
}

/// What `operator` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct OperatorOptions {
    /// Directory that holds ca.crt and ca.key
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The operator's name: letters, digits, '-', '_', '.' and '@'
    #[arg(long, default_value = "admin")]
    pub name: String,
    /// New directory for ca.crt, operator.crt and operator.key
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Writes the data directory; answers with the configuration's path.
pub fn init(init: &InitOptions) -> anyhow::Result<PathBuf> {
    let options = absolute(&init.options)?;
    let config = Config::check(&options, Problems::default())?;
    ensure!(
        !matches!(config.store, StoreLocation::Kubernetes(_)),
        "`init` makes a data directory, and there is none in Kubernetes: install the chart instead"
    );
    let dir = &config.data_dir;
    let new = [dir.join("ca.crt"), dir.join("ca.key"), dir.join("config.yaml"), dir.join("operator")];
    for path in &new {
        ensure!(!path.exists(), "{} exists: `init` overwrites nothing, so choose another --data-dir", path.display());
    }
    private_dir(dir)?;
    let (certificate, key) = Authority::generate()?;
    let [certificate_path, key_path, config_path, operator_dir] = &new;
    // The key first: a certificate without its key would be worse than none, and whoever makes it owns the rest.
    write_new(key_path, &key, PRIVATE)?;
    let rest = || {
        write_new(certificate_path, &certificate, PUBLIC)?;
        write_operator(&Authority::from_pem(&certificate, &key)?, &certificate, "admin", operator_dir)?;
        write_new(config_path, &yaml(&options), PUBLIC)
    };
    if let Err(error) = rest() {
        // Or the next try would find a cluster where there is half of one.
        new.iter().for_each(|path| remove(path));
        return Err(error);
    }
    Ok(config_path.clone())
}

fn remove(path: &Path) {
    let _never_made = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Makes another operator's certificate, or a new one when the old one ends.
pub fn issue_operator(options: &OperatorOptions) -> anyhow::Result<()> {
    if !crate::pki::is_operator_name(&options.name) {
        bail!("operator name {:?} is not valid: use letters, digits, '-', '_', '.' and '@', at most 64", options.name);
    }
    ensure!(!options.out.exists(), "{} exists: choose a new directory with --out", options.out.display());
    let certificate = read(&options.data_dir.join("ca.crt"))?;
    let authority = load_authority(&options.data_dir)?;
    // All that is made on the way there goes again where it does not come to an end.
    let first = options.out.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).last();
    let written = write_operator(&authority, &certificate, &options.name, &options.out);
    if let (Err(_), Some(first)) = (&written, first) {
        remove(first);
    }
    written
}

/// Reads the CA of a data directory.
pub(crate) fn load_authority(data_dir: &Path) -> anyhow::Result<Authority> {
    let key_path = data_dir.join("ca.key");
    key::check(&key_path)?;
    let (certificate, key) = (read(&data_dir.join("ca.crt"))?, read(&key_path)?);
    Authority::from_pem(&certificate, &key).with_context(|| format!("in directory {}", data_dir.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}: make it with `weft-controller init`, or name its directory with --data-dir",
            path.display()
        )
    })
}

fn write_operator(authority: &Authority, ca_pem: &str, name: &str, dir: &Path) -> anyhow::Result<()> {
    private_dir(dir)?;
    let key = generate_key()?;
    let certificate = authority.operator(&key, name, OPERATOR_LIFETIME)?;
    write_new(&dir.join("ca.crt"), ca_pem, PUBLIC)?;
    write_new(&dir.join("operator.key"), &key.serialize_pem(), PRIVATE)?;
    write_new(&dir.join("operator.crt"), &certificate.pem(), PUBLIC)
}

/// Paths in the configuration must not depend on where the controller is started.
fn absolute(options: &Options) -> anyhow::Result<Options> {
    let mut options = options.clone();
    let absolute = |path: &str| -> anyhow::Result<String> {
        let path = std::path::absolute(path).with_context(|| format!("path {path:?} is not usable"))?;
        path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("path {} is not UTF-8", path.display()))
    };
    if let Some(dir) = options.data_dir.as_deref().filter(|dir| !dir.is_empty()) {
        options.data_dir = Some(absolute(dir)?);
    }
    if let Some(path) =
        options.store.as_deref().and_then(|store| store.strip_prefix("redb:")).filter(|path| !path.is_empty())
    {
        options.store = Some(format!("redb:{}", absolute(path)?));
    }
    Ok(options)
}

fn private_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).with_context(|| format!("cannot create directory {}", dir.display()))
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let problem = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(problem)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        remove(path);
    }
    written.with_context(problem)
}

fn yaml(options: &Options) -> String {
    let mut text =
        "# Written by `weft-controller init`; see `weft-controller run --help` for all options.\n".to_owned();
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
    // Each option by name: one that comes later must not be forgotten here.
    let Options {
        data_dir,
        store,
        listen,
        http_listen,
        mode,
        vni,
        port,
        outer,
        mtu,
        force_settings,
        certificate_lifetime,
        renewal_grace,
        acknowledge_timeout,
        reconnect_grace,
        coalesce_window,
        handshake_timeout,
        log_format,
        pools,
        server_names,
        non_masquerade_cidrs,
        underlay_networks,
        // Of Kubernetes, where there is no file to write.
        namespace: _,
        identity: _,
        advertise: _,
        node_cidrs: _,
        lease_duration: _,
        renew_deadline: _,
        retry_period: _,
        token_audience: _,
        agent_service_account: _,
        agent_nodes: _,
        network_policy_engine: _,
    } = options;
    for (name, value) in [
        ("dataDir", data_dir),
        ("store", store),
        ("listen", listen),
        ("httpListen", http_listen),
        ("mode", mode),
        ("vni", vni),
        ("port", port),
        ("outer", outer),
        ("mtu", mtu),
        ("forceSettings", force_settings),
        ("certificateLifetime", certificate_lifetime),
        ("renewalGrace", renewal_grace),
        ("acknowledgeTimeout", acknowledge_timeout),
        ("reconnectGrace", reconnect_grace),
        ("coalesceWindow", coalesce_window),
        ("handshakeTimeout", handshake_timeout),
        ("logFormat", log_format),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {}\n", quoted(value)));
        }
    }
    for (name, values) in [
        ("pools", pools),
        ("serverNames", server_names),
        ("nonMasqueradeCIDRs", non_masquerade_cidrs),
        ("underlayNetworks", underlay_networks),
    ] {
        if !values.is_empty() {
            let list: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            text.push_str(&format!("{name}: [{}]\n", list.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_can_be_tried_again() {
        let dir = std::env::temp_dir().join(format!("weft-init-{}", std::process::id()));
        let operator = dir.join("operator");
        fs::create_dir_all(&dir).expect("a writable temp dir");
        std::os::unix::fs::symlink(dir.join("missing/dir"), &operator).expect("a place where no directory can be made");
        let options = Options {
            data_dir: Some(dir.display().to_string()),
            pools: vec!["10.244.0.0/16=24".to_owned()],
            ..Options::default()
        };
        let told = InitOptions { options };
        init(&told).expect_err("the operator's directory cannot be made");
        assert_eq!(fs::read_dir(&dir).expect("still there").count(), 0, "half a cluster must not stay");
        init(&told).expect("the second try");
        load_authority(&dir).expect("a whole authority");
        fs::remove_dir_all(&dir).expect("just written");
    }

    #[test]
    fn an_operator_that_failed_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("weft-operator-{}", std::process::id()));
        let data_dir = dir.join("data");
        let options = Options {
            data_dir: Some(data_dir.display().to_string()),
            pools: vec!["10.244.0.0/16=24".to_owned()],
            ..Options::default()
        };
        init(&InitOptions { options }).expect("a new cluster");
        // The longest path there is: a directory can be made there, and ca.crt in it, but no operator.key.
        let mut out = dir.join("out");
        while out.as_os_str().len() < 4_085 {
            let rest = 4_085 - out.as_os_str().len();
            out.push("d".repeat(if rest > 202 { 200 } else { rest - 1 }));
        }
        let mut told = OperatorOptions { data_dir, name: "you".to_owned(), out };
        let error = issue_operator(&told).expect_err("the name of its key is too long");
        assert!(format!("{error:#}").contains("operator.key"), "{error:#}");
        assert!(!dir.join("out").exists(), "half an operator's directory must not stay");
        told.out = dir.join("out");
        issue_operator(&told).expect("the second try");
        assert!(told.out.join("operator.key").exists());
        fs::remove_dir_all(&dir).expect("just written");
    }

    #[test]
    fn what_init_writes_run_reads() {
        let options = Options {
            data_dir: Some("/var/lib/it's here".to_owned()),
            vni: Some("99".to_owned()),
            pools: vec!["10.244.0.0/16=24".to_owned(), "fd00:1::/48=64".to_owned()],
            server_names: vec!["192.0.2.1".to_owned()],
            non_masquerade_cidrs: vec!["10.0.0.0/8".to_owned()],
            underlay_networks: vec!["192.0.2.0/24".to_owned()],
            ..Options::default()
        };
        let written = Config::parse(&yaml(&options)).expect("our own file");
        assert_eq!(written, Config::check(&options, Problems::default()).expect("sound options"));
        assert_eq!(written.pools.len(), 2);
    }
}
