//! What IPVS itself says: its virtual servers and its own link.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;

use super::super::{
    objects::{PORT, Service, TARGET},
    report::Report,
    scene::{HERE, Scene, THERE},
};
use crate::lab::wait;

/// kube-proxy's link, which has the addresses of all Services.
const LINK: &str = "kube-ipvs0";

/// Virtual servers, as `PROTOCOL ADDRESS:PORT`, each with its backends and their weights.
pub(super) type Table = BTreeMap<String, BTreeMap<String, u32>>;

/// What `ipvsadm` prints on a node.
pub(super) async fn read(scene: &Scene, node: &str) -> Result<Table> {
    parse(&scene.cluster.lab().host(node).run(&["ipvsadm", "--list", "--numeric"]).await?)
}

fn parse(text: &str) -> Result<Table> {
    let mut table = Table::new();
    let mut last = None;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [protocol @ ("TCP" | "UDP"), at, ..] => {
                let key = format!("{protocol} {at}");
                table.insert(key.clone(), BTreeMap::new());
                last = Some(key);
            }
            ["->", backend, how, weight, ..] if how != "Forward" => {
                ensure!(how == "Masq", "{line}: not by translation");
                let server = last.as_ref().and_then(|key| table.get_mut(key)).context("a backend of nobody")?;
                server.insert(backend.to_owned(), weight.parse().with_context(|| line.to_owned())?);
            }
            _ => {}
        }
    }
    Ok(table)
}

fn socket(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Waits until the tables of both nodes are complete.
pub(in super::super) async fn filled(scene: &Scene) -> Result<()> {
    for node in [HERE, THERE] {
        let what = format!("kube-proxy to fill the table of {node}");
        wait::until(&what, wait::PATIENCE, async || as_expected(scene, node).await).await?;
    }
    Ok(())
}

/// Tables and addresses on both nodes.
pub(in super::super) async fn tables(scene: &Scene, report: &mut Report) {
    for node in [HERE, THERE] {
        report.case(&format!("`ipvsadm -Ln` on {node}"), async || as_expected(scene, node).await).await;
    }
    for node in [HERE, THERE] {
        report.case(&format!("addresses of {LINK} on {node}"), async || addresses(scene, node).await).await;
    }
}

async fn as_expected(scene: &Scene, node: &str) -> Result<String> {
    let table = read(scene, node).await?;
    let services = &scene.services;
    let behind: [(&Service, &[&str]); 5] = [
        (&services.far, &["far"]),
        (&services.near, &["near"]),
        (&services.both, &["near", "far"]),
        (&services.local, &["far"]),
        (&services.host, &["b1's host"]),
    ];
    for (service, names) in behind {
        for family in &scene.families {
            let of_family =
                scene.endpoints(names).into_iter().filter(|endpoint| Family::of(endpoint.address) == *family);
            let wanted: BTreeMap<_, _> = of_family.map(|endpoint| (socket(endpoint.address, TARGET), 1)).collect();
            let mut at = vec![socket(service.ip(*family), PORT)];
            if let Some(port) = service.node_port {
                at.push(socket(scene.cluster.lab().host(node).address(*family), port));
            }
            for (protocol, at) in ["TCP", "UDP"].iter().flat_map(|protocol| at.iter().map(move |at| (protocol, at))) {
                let found = table.get(&format!("{protocol} {at}"));
                ensure!(found == Some(&wanted), "{protocol} {at} leads to {found:?} and not to {wanted:?}");
            }
        }
    }
    Ok(format!("{} virtual servers, those of every Service lead to its backends and nowhere else", table.len()))
}

async fn addresses(scene: &Scene, node: &str) -> Result<String> {
    let printed = scene.cluster.lab().host(node).run(&["ip", "-oneline", "address", "show", "dev", LINK]).await?;
    let found: BTreeSet<_> = printed.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    let services = &scene.services;
    for service in [&services.far, &services.near, &services.both, &services.local, &services.host] {
        for family in &scene.families {
            let wanted = format!("{}/{}", service.ip(*family), family.bits());
            ensure!(found.contains(&*wanted), "{wanted} is not among {found:?}");
        }
    }
    Ok(format!("{} addresses", found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipvsadm_prints_is_read() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\nTCP  10.96.0.10:80 rr\n  \
                    -> 10.244.1.1:8080              Masq    1      0          2\nUDP  10.96.0.10:80 rr\nTCP  \
                    [fd96::a]:80 rr\n  -> [fd44:5745:0:1::1]:8080      Masq    0      0          0\n";
        let table = parse(text).expect("a table");
        assert_eq!(table["TCP 10.96.0.10:80"], [("10.244.1.1:8080".to_owned(), 1)].into());
        assert_eq!(table["UDP 10.96.0.10:80"], BTreeMap::new());
        assert_eq!(table["TCP [fd96::a]:80"], [("[fd44:5745:0:1::1]:8080".to_owned(), 0)].into());
        assert!(parse("TCP  10.96.0.10:80 rr\n  -> 10.244.1.1:8080 Route 1 0 0\n").is_err());
    }
}
