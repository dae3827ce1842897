//! Installation in a directory of its own.

use std::{
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::*;

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weft-install-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&place.0).expect("create");
        fs::write(place.binary(), b"#!/bin/sh\nexit 0\n").expect("write");
        place
    }

    fn binary(&self) -> PathBuf {
        self.0.join("built")
    }

    fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    fn conf(&self) -> PathBuf {
        self.0.join("net.d")
    }

    fn install(&self) -> Result<Installed> {
        self.install_with(&[])
    }

    fn install_with(&self, chain: &[Chained]) -> Result<Installed> {
        let (bin_dir, conf_dir, binary) = (self.bin(), self.conf(), self.binary());
        let paths = CniPaths { bin_dir, conf_dir, binary, chain: chain.to_vec() };
        install(&paths, Path::new("/run/weft/agent.sock"))
    }

    fn list(&self) -> Value {
        serde_json::from_slice(&fs::read(self.conf().join(CONFLIST)).expect("read")).expect("JSON")
    }

    /// As another installer does, in a layout of its own.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut list = self.list();
        edit(&mut list);
        fs::write(self.conf().join(CONFLIST), list.to_string()).expect("write");
    }

    fn append(&self, entry: Value) {
        self.edit(|list| list["plugins"].as_array_mut().expect("a list").push(entry));
    }

    fn plugins(&self) -> Vec<String> {
        let list = self.list();
        let plugins = list["plugins"].as_array().expect("a list").iter();
        plugins.map(|plugin| plugin["type"].as_str().expect("a type").to_owned()).collect()
    }

    fn files(&self, directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("list").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn installs_what_a_runtime_takes_and_leaves_no_temporary_file() {
    let place = Place::new();
    assert_eq!(place.install().expect("install").written.len(), 2);
    assert_eq!(place.files(&place.bin()), [BINARY]);
    assert_eq!(place.files(&place.conf()), [CONFLIST]);
    let mode = fs::metadata(place.bin().join(BINARY)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let list: Value = serde_json::from_slice(&fs::read(place.conf().join(CONFLIST)).expect("read")).expect("JSON");
    assert_eq!((&list["cniVersion"], &list["name"]), (&json!("1.0.0"), &json!("weft")));
    assert_eq!(list["plugins"], json!([{"type": "weft-cni", "socket": "/run/weft/agent.sock"}]));
    assert_eq!(place.install().expect("again").written, Vec::<PathBuf>::new(), "nothing had changed");
}

#[test]
fn replaces_a_binary_that_runs() {
    let place = Place::new();
    fs::create_dir_all(place.bin()).expect("create");
    let target = place.bin().join(BINARY);
    fs::copy("/bin/sleep", &target).expect("copy");
    let mut running = std::process::Command::new(&target).arg("60").spawn().expect("run it");
    let installed = place.install();
    running.kill().expect("end it");
    running.wait().expect("wait");
    assert_eq!(installed.expect("no \"text file busy\"").written[0], target);
    assert_eq!(fs::read(&target).expect("read"), fs::read(place.binary()).expect("read"));
}

#[test]
fn warns_of_configurations_that_win() {
    let place = Place::new();
    fs::create_dir_all(place.conf()).expect("create");
    for name in ["05-other.conf", "00-notes.txt", ".00-hidden.conf", "87-podman.conflist"] {
        fs::write(place.conf().join(name), b"{}").expect("write");
    }
    let warnings = place.install().expect("install").warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("05-other.conf"), "{warnings:?}");
}

#[test]
fn a_missing_binary_is_named() {
    let place = Place::new();
    fs::remove_file(place.binary()).expect("remove");
    let error = format!("{:#}", place.install().expect_err("missing"));
    assert!(error.contains("built"), "{error}");
    assert!(!place.conf().exists(), "a configuration without a binary makes every pod fail");
}

#[test]
fn removes_ours_and_only_ours() {
    let place = Place::new();
    place.install().expect("install");
    fs::write(place.conf().join("20-other.conflist"), b"{}").expect("write");
    assert_eq!(remove(&place.bin(), &place.conf()).expect("remove"), Vec::<String>::new());
    assert_eq!(place.files(&place.conf()), ["20-other.conflist"]);
    assert!(place.files(&place.bin()).is_empty());
    assert_eq!(remove(&place.bin(), &place.conf()).expect("nothing there"), Vec::<String>::new());

    place.install().expect("install");
    fs::write(place.conf().join(CONFLIST), br#"{"name":"other","plugins":[{"type":"bridge"}]}"#).expect("a stranger's");
    assert_eq!(remove(&place.bin(), &place.conf()).expect("remove").len(), 1);
    assert_eq!(place.files(&place.conf()).len(), 2, "it is not ours to remove");
}

#[test]
fn what_a_mesh_puts_behind_ours_stays_there_and_is_named() {
    let place = Place::new();
    place.install_with(&[Chained::Portmap]).expect("install");
    fs::write(place.bin().join("istio-cni"), b"").expect("write");
    place.append(json!({"type": "istio-cni", "log_level": "info"}));
    let written_by_the_mesh = fs::read(place.conf().join(CONFLIST)).expect("read");
    let installed = place.install_with(&[Chained::Portmap]).expect("again");
    assert_eq!((installed.written, &installed.others[..]), (Vec::<PathBuf>::new(), &["istio-cni".to_owned()][..]));
    assert_eq!(fs::read(place.conf().join(CONFLIST)).expect("read"), written_by_the_mesh, "its layout is its own");

    // An upgrade that chains more and listens elsewhere takes it along.
    fs::write(place.bin().join("portmap"), b"").expect("write");
    assert_eq!(place.install_with(&[Chained::Portmap]).expect("upgrade").written.len(), 1);
    assert_eq!(place.plugins(), [BINARY, "portmap", "istio-cni"]);
    assert_eq!(place.install_with(&[]).expect("the chain is given up").written.len(), 1);
    assert_eq!(place.plugins(), [BINARY, "istio-cni"]);

    fs::remove_file(place.bin().join("istio-cni")).expect("the mesh goes, its entry stays");
    let warnings = place.install_with(&[]).expect("again").warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("istio-cni") && one.contains("starts no pod")),
        "{warnings:?}"
    );
}

#[test]
fn fields_that_somebody_added_stay_and_an_altered_entry_of_ours_comes_back() {
    let place = Place::new();
    place.install().expect("install");
    place.edit(|list| {
        list["disableCheck"] = true.into();
        list["plugins"][0]["socket"] = "/elsewhere".into();
    });
    assert_eq!(place.install().expect("again").written.len(), 1);
    let list = place.list();
    assert_eq!((&list["disableCheck"], &list["plugins"][0]["socket"]), (&json!(true), &json!("/run/weft/agent.sock")));
}

#[test]
fn what_stands_before_ours_is_another_network_and_is_taken_out() {
    let place = Place::new();
    place.install().expect("install");
    place.edit(|list| list["plugins"].as_array_mut().expect("a list").insert(0, json!({"type": "bridge"})));
    let warnings = place.install().expect("again").warnings;
    assert!(matches!(&warnings[..], [one] if one.contains("bridge")), "{warnings:?}");
    assert_eq!(place.plugins(), [BINARY]);
}

#[test]
fn with_others_plugins_in_it_the_configuration_is_put_aside_where_no_runtime_looks() {
    let place = Place::new();
    place.install().expect("install");
    place.append(json!({"type": "istio-cni"}));
    let warnings = remove(&place.bin(), &place.conf()).expect("remove");
    assert!(matches!(&warnings[..], [one] if one.contains("istio-cni") && one.contains(LEFT_BEHIND)), "{warnings:?}");
    assert_eq!(place.files(&place.conf()), [LEFT_BEHIND]);
    assert!(!is_configuration(LEFT_BEHIND), "a runtime would be ready and start nothing");
    assert!(!place.files(&place.bin()).iter().any(|name| name == BINARY));
}

#[test]
fn chains_what_is_there_and_names_what_is_not() {
    let place = Place::new();
    fs::create_dir_all(place.bin()).expect("create");
    fs::write(place.bin().join("bandwidth"), b"").expect("write");
    let chain = [Chained::Portmap, Chained::Bandwidth];
    let warnings = place.install_with(&chain).expect("install").warnings;
    assert!(matches!(&warnings[..], [one] if one.contains("portmap") && one.contains("hostPorts")), "{warnings:?}");
    assert_eq!(place.plugins(), [BINARY, "bandwidth"]);

    fs::write(place.bin().join("portmap"), b"").expect("write");
    let installed = place.install_with(&chain).expect("again");
    assert_eq!((installed.written, installed.warnings), (vec![place.conf().join(CONFLIST)], Vec::new()));
    assert_eq!(place.plugins(), [BINARY, "portmap", "bandwidth"]);

    assert_eq!(remove(&place.bin(), &place.conf()).expect("remove"), Vec::<String>::new());
    assert!(place.files(&place.conf()).is_empty(), "what we chained is ours");
    assert!(!place.files(&place.bin()).iter().any(|name| name == BINARY));
    assert_eq!(place.files(&place.bin()).len(), 2, "the binaries of others stay");
}
