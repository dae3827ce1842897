//! Backends that come and go.

use anyhow::{Context, Result, bail, ensure};
use weft_core::types::Family;

use super::{
    super::{
        backend::Talk,
        report::Report,
        scene::{HERE, Scene},
    },
    tables,
};
use crate::lab::{
    echo::{Transport, exchange},
    wait,
};

/// One of two backends leaves its Service, then the other, then both come back.
pub(in super::super) async fn backend_goes(scene: &Scene, report: &mut Report, family: Family) {
    report.case(&format!("a backend goes, another stays ({family})"), async || one_goes(scene, family).await).await;
    report.case(&format!("no backend is left ({family})"), async || all_go(scene, family).await).await;
    report.case(&format!("they come back ({family})"), async || they_come_back(scene, family).await).await;
}

async fn one_goes(scene: &Scene, family: Family) -> Result<String> {
    let service = &scene.services.both;
    let mut talk = talk_with(scene, family, "far").await?;
    scene.objects.endpoints(service, &scene.endpoints(&["near"])).await?;
    only_near_is_asked(scene, family).await?;
    for _ in 0..5 {
        let answer = scene.ask_over(scene.client.net(), Transport::Tcp, scene.at(service, family)).await?;
        ensure!(answer.backend == "near", "{answer}");
    }
    talk.say("still there?").await.context("the connection to the one that left")?;
    Ok("5 of 5 new connections go to the other, and the open one to the first goes on".to_owned())
}

/// A connection through the Service that one backend has taken.
async fn talk_with(scene: &Scene, family: Family, backend: &str) -> Result<Talk> {
    for _ in 0..10 {
        let (talk, seen) = scene.talk(scene.client.net(), scene.at(&scene.services.both, family)).await?;
        if seen == backend {
            return Ok(talk);
        }
    }
    bail!("{backend} took none of ten connections")
}

/// Until then the other may still be chosen.
async fn only_near_is_asked(scene: &Scene, family: Family) -> Result<()> {
    let at = scene.at(&scene.services.both, family);
    wait::until("IPVS to choose one only", wait::PATIENCE, async || {
        let table = tables::read(scene, HERE).await?;
        for protocol in ["TCP", "UDP"] {
            let chosen = table.get(&format!("{protocol} {at}")).context("no virtual server")?;
            let count = chosen.values().filter(|weight| **weight > 0).count();
            ensure!(count == 1, "{protocol} {at} leads to {chosen:?}");
        }
        Ok(())
    })
    .await
}

async fn all_go(scene: &Scene, family: Family) -> Result<String> {
    let service = &scene.services.both;
    scene.objects.endpoints(service, &[]).await?;
    wait::until("nobody to be asked", wait::PATIENCE, async || {
        match exchange(scene.client.net(), Transport::Tcp, scene.at(service, family), b"anybody?").await {
            Ok(_) => bail!("somebody answers"),
            Err(error) => Ok(format!("no answer: {}", error.root_cause())),
        }
    })
    .await
}

async fn they_come_back(scene: &Scene, family: Family) -> Result<String> {
    let service = &scene.services.both;
    scene.objects.service(service, &scene.endpoints(&["near", "far"])).await?;
    for backend in ["near", "far"] {
        wait::until(&format!("{backend} to answer"), wait::PATIENCE, async || {
            let at = scene.at(service, family);
            let answer = scene.ask_over(scene.client.net(), Transport::Tcp, at).await?;
            ensure!(answer.backend == backend, "{answer}");
            Ok(())
        })
        .await?;
    }
    Ok("both answer".to_owned())
}
