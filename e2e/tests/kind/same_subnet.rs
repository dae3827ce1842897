//! Nodes of one subnet need no tunnel: their pods' packets travel as they are.

use anyhow::ensure;
use weft_e2e::{
    kind::{Kind, Scene},
    kind_test,
};

use crate::traffic::{Transport, plain, seen_as_itself, tunnelled};

kind_test!(pods_in_one_subnet_talk_without_the_tunnel, async |kind: &Kind| {
    let scene = Scene::set(kind, "same-subnet").await?;
    let nodes = kind.neighbours();
    let pods = scene.pods_of("web", &nodes).await?;
    let [one, other] = &pods[..] else { anyhow::bail!("two nodes have {} pods", pods.len()) };
    let captures = [nodes[0].capture().await?, nodes[1].capture().await?];
    for family in kind.families() {
        for (from, to) in [(one, other), (other, one)] {
            seen_as_itself(from, to.http(family), Transport::Http).await?;
            seen_as_itself(from, to.udp(family), Transport::Udp).await?;
            from.reaches(to.address(family)).await?;
        }
        for capture in &captures {
            let seen = capture.count(|packet| plain(packet, &[one, other], family))?;
            ensure!(seen > 0, "{}: nothing of the pods was seen: this shows nothing", capture.place());
            capture.expect_none("what needs no tunnel, in the tunnel", |packet| {
                let [one, other] = [one, other].map(|pod| pod.address(family));
                tunnelled(packet, one, other) || tunnelled(packet, other, one)
            })?;
        }
    }
    scene.end().await
});

kind_test!(the_resources_tell_which_paths_are_direct, async |kind: &Kind| {
    for node in kind.nodes() {
        let same = kind.nodes().filter(|other| other.subnet() == node.subnet()).count() - 1;
        let others = kind.nodes().filter(|other| other.subnet() != node.subnet()).count();
        let vtep = kind.vteps().get(node.name()).await?;
        let status = vtep.status.unwrap_or_default();
        ensure!(!status.reach.is_empty(), "{} is reached by nobody: {status:?}", node.name());
        for reach in &status.reach {
            let counts =
                [reach.direct, reach.vxlan, reach.unreached].map(|count| usize::try_from(count).expect("small"));
            ensure!(counts == [same, others, 0], "{} over {}: {reach:?}", node.name(), reach.family);
        }
    }
    Ok(())
});
