//! Who counts as cleaned, and for how long.

use weft_core::standing::{Health, Problem, Reason};

use super::{super::tests::*, CleanUpStanding};
use crate::{
    cluster::{Cluster, Refusal, Report, Session},
    store::MemoryStore,
};

async fn joined(cluster: &Cluster, node: &str, last: u8) -> Session {
    let ask = token(cluster, node).await;
    cluster.join(ask).await.expect("a good token");
    cluster.connect(connect(node, 1, last)).await.expect("a member")
}

async fn cleaned(cluster: &Cluster, node: &str, session: &Session) {
    let report = Report { cleaned_up: true, ..Report::default() };
    cluster.report(name(node), session.id, report, [127, 0, 0, 1].into()).await;
}

async fn standing(cluster: &Cluster) -> CleanUpStanding {
    cluster.clean_up_standing().await.expect("it runs")
}

fn names(standing: &CleanUpStanding) -> (Vec<&str>, Vec<&str>) {
    let cleaned = standing.cleaned.iter().map(|node| node.as_str()).collect();
    (cleaned, standing.waiting.iter().map(|(node, _)| node.as_str()).collect())
}

#[tokio::test]
async fn nodes_count_as_cleaned_when_their_agents_say_so_on_their_present_stream() {
    let (cluster, _task) = cluster(&MemoryStore::new()).await;
    let one = joined(&cluster, "n1", 1).await;
    drop(joined(&cluster, "n2", 2).await);
    // Said before the order it means nothing.
    cleaned(&cluster, "n1", &one).await;
    assert_eq!(standing(&cluster).await, CleanUpStanding::default());

    cluster.order_clean_up(true).await.expect("it runs");
    assert!(cluster.fanout().clean_up().is_some(), "streams are not told");
    assert_eq!(names(&standing(&cluster).await), (vec![], vec!["n1", "n2"]));
    cleaned(&cluster, "n1", &one).await;
    assert_eq!(names(&standing(&cluster).await), (vec!["n1"], vec!["n2"]));

    // Silence takes nothing back, a new stream does: its agent may have begun anew.
    cluster.disconnect(name("n1"), one.id).await;
    assert_eq!(names(&standing(&cluster).await), (vec!["n1"], vec!["n2"]));
    let again = cluster.connect(connect("n1", 1, 1)).await.expect("a member");
    assert_eq!(names(&standing(&cluster).await), (vec![], vec!["n1", "n2"]));
    cleaned(&cluster, "n1", &one).await;
    assert_eq!(names(&standing(&cluster).await).0, Vec::<&str>::new(), "an old stream was believed");
    cleaned(&cluster, "n1", &again).await;
    assert_eq!(names(&standing(&cluster).await), (vec!["n1"], vec!["n2"]));

    // A machine that is gone is let go with its membership.
    cluster.delete_node(name("n2")).await.expect("a member");
    assert_eq!(names(&standing(&cluster).await), (vec!["n1"], vec![]));
}

#[tokio::test]
async fn a_node_is_waited_for_with_a_reason() {
    let (cluster, _task) = cluster(&MemoryStore::new()).await;
    let one = joined(&cluster, "n1", 1).await;
    let two = joined(&cluster, "n2", 2).await;
    cluster.disconnect(name("n2"), two.id).await;
    cluster.order_clean_up(true).await.expect("it runs");
    let problem = Problem { reason: Reason::CleanUpFailed, message: "busy".into() };
    let health = Health { problem: Some(problem), ..Health::default() };
    let report = Report { health: Some(health), ..Report::default() };
    cluster.report(name("n1"), one.id, report, [127, 0, 0, 1].into()).await;
    let standing = standing(&cluster).await;
    assert_eq!(names(&standing), (vec![], vec!["n1", "n2"]));
    assert_eq!(standing.waiting[0].1, "busy");
    assert!(standing.waiting[1].1.contains("not connected"), "{standing:?}");
}

#[tokio::test]
async fn a_node_that_never_had_an_agent_is_not_waited_for() {
    let (cluster, _task) = cluster(&MemoryStore::new()).await;
    let ask = token(&cluster, "n1").await;
    cluster.join(ask).await.expect("a good token");
    cluster.order_clean_up(true).await.expect("it runs");
    assert_eq!(standing(&cluster).await, CleanUpStanding::default());
}

#[tokio::test]
async fn called_off_every_agent_connects_again_and_is_a_member() {
    let (cluster, _task) = cluster(&MemoryStore::new()).await;
    let one = joined(&cluster, "n1", 1).await;
    cluster.order_clean_up(true).await.expect("it runs");
    cluster.order_clean_up(true).await.expect("twice is once");
    cleaned(&cluster, "n1", &one).await;
    assert_eq!(names(&standing(&cluster).await), (vec!["n1"], vec![]), "the second order forgot who was done");
    cluster.order_clean_up(false).await.expect("it runs");
    assert_eq!(one.closed.await, Ok(Refusal::CalledOff { node: name("n1") }));
    assert!(cluster.fanout().clean_up().is_none(), "the next stream is told to clean up");
    assert_eq!(standing(&cluster).await, CleanUpStanding::default());
    cluster.connect(connect("n1", 1, 1)).await.expect("a member as before");
}
