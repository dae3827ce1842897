//! Services as kube-proxy's own binary programs them beside Weft's agents, case by case.
//!
//! Owns the order of the cases. Needs the kernel's IPVS for that mode, which not every machine has: `./dev vm 6.12 ipvs` runs it on
//! Debian's. Nothing here may depend on what kube-proxy is said to do: all of it is asked.

mod api;
mod backend;
mod cases;
mod kube_proxy;
mod objects;
mod report;
mod scene;

use std::path::PathBuf;

use anyhow::{Context, Result};
use weft_core::types::Family;

use self::{
    cases::Before,
    kube_proxy::{Local, Settings},
    report::Report,
    scene::Scene,
};
use crate::lab::binaries;

/// Kubernetes' programs lie beside the lab's own.
fn find(name: &str) -> Result<PathBuf> {
    binaries::find(name)
        .with_context(|| format!("there is no {name} of Kubernetes: `./dev vm 6.12 ipvs` brings its own"))
}

/// What a run is about.
#[derive(Debug, Clone)]
pub struct Plan {
    /// kube-proxy's mode.
    pub mode: String,
    /// Families of Services, the main one first.
    pub families: Vec<Family>,
}

/// Runs all cases and prints their table.
///
/// # Errors
/// Where the lab does not come up, or a case fails.
pub async fn run(plan: &Plan) -> Result<()> {
    let mut report = Report::default();
    let done = show(plan, &mut report).await;
    // Also of a run that did not come to its end.
    let table = report.end();
    done.and(table)
}

async fn show(plan: &Plan, report: &mut Report) -> Result<()> {
    let is_ipvs = plan.mode == "ipvs";
    report.part("Two nodes in two subnets, an API server beside the controller");
    let scene = Scene::set(&plan.families, is_ipvs, report).await?;
    let settings =
        Settings { mode: plan.mode.clone(), strict_arp: false, local: Local::ClusterCidr(scene.cluster_cidr()) };
    let before = Before::read(&scene).await?;
    scene.make_services().await?;
    scene.start_proxies(&settings).await?;
    if is_ipvs {
        // Before that a question would take other ways, and what is translated once is not translated otherwise later.
        cases::filled(&scene).await?;
    }
    scene.served().await?;
    report.line(&format!("kube-proxy serves on both nodes, in mode {}", plan.mode));
    if is_ipvs {
        report.part("IPVS");
        cases::tables(&scene, report).await;
    }
    for family in &plan.families {
        report.part("ClusterIP");
        cases::cluster_ip(&scene, report, *family).await;
        report.part("NodePort");
        cases::node_port(&scene, report, *family).await?;
    }
    report.part("Weft's agents");
    cases::undisturbed(&scene, report, &before).await;
    if is_ipvs {
        report.part("Backends");
        for family in &plan.families {
            cases::backend_goes(&scene, report, *family).await;
        }
    }
    report.part("Restarts");
    cases::restarted(&scene, report, &settings, &before).await;
    report.part("Switches of the kernel");
    cases::rp_filter(&scene, report).await?;
    report.part("kube-proxy's settings");
    cases::pods_traffic(&scene, report, &settings).await?;
    if is_ipvs {
        cases::strict_arp(&scene, report, &settings).await?;
        report.part("Addresses");
        cases::misplaced(&scene, report).await;
    }
    Ok(())
}
