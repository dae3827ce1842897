//! The rows that concern one node: its objects, its device, its table, its sysctls, and all of it at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use weft_e2e::{lab::wait, lab_test};

use crate::drift::{
    hands::{
        Hand, Row,
        links::{self, Vxlan},
        objects, settings, tables,
    },
    random::FACES,
    scene::{PATIENCE, Scene},
};

/// The node whose kernel suffers: it has a peer in its subnet and one beyond the router.
const NODE: &str = "a1";

/// Each row in turn; they are made anew as indexes, handles and the kernel's order change with what is re-created.
async fn rows(scene: &mut Scene, make: impl Fn(&Scene) -> Result<Vec<Row>>) -> Result<()> {
    let names: Vec<String> = make(scene)?.into_iter().map(|row| row.name).collect();
    for name in names {
        let row = make(scene)?.into_iter().find(|row| row.name == name);
        scene.row(NODE, &row.with_context(|| format!("{name}: its object is gone"))?).await?;
    }
    Ok(())
}

lab_test!(every_object_comes_back, async || {
    let mut scene = Scene::set().await?;
    rows(&mut scene, |scene| objects::rows(&scene.nodes[NODE].eye.route)).await?;
    scene.end().await
});

lab_test!(the_device_comes_back, async || {
    let mut scene = Scene::set().await?;
    rows(&mut scene, |scene| links::rows(&scene.nodes[NODE].eye.route)).await?;
    rows(&mut scene, |scene| objects::additions(&scene.nodes[NODE].eye.route)).await?;
    rows(&mut scene, |scene| objects::strays(&scene.nodes[NODE].eye.route)).await?;
    rows(&mut scene, |scene| links::pods(&scene.nodes[NODE].eye.route, &scene.nodes[NODE].pods)).await?;
    scene.end().await
});

lab_test!(the_table_comes_back, async || {
    let mut scene = Scene::set().await?;
    rows(&mut scene, |scene| tables::rows(&scene.nodes[NODE].eye.tables)).await?;
    scene.end().await
});

lab_test!(sysctls_come_back, async || {
    let mut scene = Scene::set().await?;
    rows(&mut scene, |scene| Ok(settings::rows(&scene.nodes[NODE].pods))).await?;
    scene.end().await
});

lab_test!(everything_at_once_comes_back, async || {
    let mut scene = Scene::set().await?;
    for with_device in [false, true] {
        let row = everything(&scene, with_device)?;
        scene.row(NODE, &row).await?;
    }
    scene.end().await
});

/// All objects deleted, the table deleted, all sysctls wrong; where `with_device` the device deleted before.
pub(crate) fn everything(scene: &Scene, with_device: bool) -> Result<Row> {
    let node = &scene.nodes[NODE];
    // What goes with another object cannot be deleted as well: routes before nexthops, sysctls at the end.
    let mut all = objects::rows(&node.eye.route)?;
    all.retain(|row| row.name.ends_with("deleted") && (!with_device || row.name.starts_with("unreachable")));
    all.reverse();
    all.extend(tables::rows(&node.eye.tables)?.into_iter().filter(|row| row.name == "table deleted"));
    if with_device {
        all.extend(links::rows(&node.eye.route)?.into_iter().filter(|row| row.name == "device deleted"));
    }
    all.extend(settings::rows(&node.pods).into_iter().filter(|row| !with_device || !row.name.contains("/weft0/")));
    Ok(Row::all(if with_device { "everything and the device" } else { "everything on the device" }, all))
}

lab_test!(a_device_that_nothing_marks_any_more_is_named, async || {
    let mut scene = Scene::set().await?;
    let node = &scene.nodes[NODE];
    let all = links::rows(&node.eye.route)?;
    let faces = all.into_iter().filter(|row| FACES.contains(&row.name.as_str()));
    node.agent.signal(Signal::STOP).await?;
    Row::all("device lost alias and name", faces).apply(&node.net, &node.eye)?;
    node.agent.signal(Signal::CONT).await?;
    wait::until("the agent to name it", PATIENCE, async || {
        let status = node.agent.weft().status().await?;
        let named = status.message.contains("stolen0") && status.message.contains("VNI 87");
        ensure!(!status.ready && named, "it says {} {}", status.reason, status.message);
        Ok(())
    })
    .await?;
    let row = Row::new("the stranger goes", Hand::Route(vec![links::delete("stolen0")]));
    row.apply(&node.net, &node.eye)?;
    let start = Instant::now();
    let took = scene.back(&row.name, NODE, start).await?;
    scene.note(took, row.name);
    scene.end().await
});

lab_test!(a_device_that_is_somebody_elses_is_left_alone_and_told, async || {
    let mut scene = Scene::set().await?;
    let node = &scene.nodes[NODE];
    // Same name, no mark, another network: whoever made this wants it.
    let theirs = Vxlan { name: "weft0", vni: 99, port: 4789, alias: None };
    let hand = Hand::Route([vec![links::delete("weft0")], links::create(&theirs)].concat());
    node.agent.signal(Signal::STOP).await?;
    Row::new("device replaced by somebody else's", hand).apply(&node.net, &node.eye)?;
    node.agent.signal(Signal::CONT).await?;
    let index = links::index(&node.eye.route, "weft0")?;
    wait::until("the agent to tell", PATIENCE, async || {
        let status = node.agent.weft().status().await?;
        ensure!(!status.ready && status.message.contains("weft0"), "it says {} {}", status.reason, status.message);
        Ok(())
    })
    .await?;
    ensure!(links::index(&node.eye.route, "weft0")? == index, "somebody else's link was taken away");
    let row = Row::new("somebody else's device goes", Hand::Route(vec![links::delete("weft0")]));
    scene.row(NODE, &row).await?;
    scene.end().await
});
