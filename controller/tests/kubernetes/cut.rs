//! Commits that are cut short at every request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::{Client, client::Body};
use tower::{BoxError, Service};
use weft_controller::{
    KubeStore,
    store::{Life, NodeRecord, Store, Stored, Write},
};

use crate::{
    api::{ApiServer, NAMESPACE},
    objects::{cidr, holders, name, quarantined, record},
};

/// Requests that change something, of which only so many go through.
#[derive(Clone)]
struct Cut {
    inner: Client,
    left: Arc<AtomicUsize>,
    /// The request after the last is carried out all the same, but its answer gets lost.
    loses_answer: bool,
}

impl Service<Request<Body>> for Cut {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gone = || -> BoxError { "the process is gone".into() };
        let inner = self.inner.clone();
        let reads = request.method() == Method::GET;
        let before =
            if reads { Ok(usize::MAX) } else { self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) };
        let is_lost = before == Ok(1) && self.loses_answer;
        Box::pin(async move {
            before.map_err(|_| gone())?;
            let answer = inner.send(request).await?;
            if is_lost { Err(gone()) } else { Ok(answer) }
        })
    }
}

const fn one_less(left: usize) -> Option<usize> {
    left.checked_sub(1)
}

fn cut_client(server: &ApiServer, requests: usize, loses_answer: bool) -> (Client, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(requests));
    let cut = Cut { inner: server.client(), left: Arc::clone(&left), loses_answer };
    (Client::new(cut, "default"), left)
}

fn moved(mut record: NodeRecord, third: u8) -> NodeRecord {
    record.pod_cidrs.v4 = Some(cidr(third));
    record.incarnation += 1;
    record
}

/// A departs, C is another life with another CIDR, D is new, E takes over what is in quarantine, F's quarantine ends.
fn batch() -> Vec<Write> {
    vec![
        Write::RemoveNode(name("a")),
        Write::Life(Life { node: name("a"), incarnation: 1_700_000_000, ended_unix: None }),
        Write::Quarantine(quarantined(1, "a")),
        Write::Quarantine(weft_controller::store::Quarantined {
            cidr: "fd00:0:0:1::/64".parse().expect("a CIDR"),
            owner: name("a"),
        }),
        Write::Quarantine(quarantined(3, "c")),
        Write::Node(moved(record("c", 3), 13)),
        Write::Node(record("d", 4)),
        Write::RemoveQuarantine(cidr(5)),
        Write::Node(record("e", 5)),
        Write::RemoveQuarantine(cidr(6)),
    ]
}

async fn begin(server: &ApiServer) -> Stored {
    let store = KubeStore::new(&server.client(), NAMESPACE);
    let stored = store.load().await.expect("readable");
    let mut batch: Vec<Write> = stored.nodes.iter().map(|node| Write::RemoveNode(node.name.clone())).collect();
    batch.extend(stored.lives.iter().map(|life| Write::RemoveLife(life.node.clone())));
    batch.extend(stored.quarantine.iter().map(|entry| Write::RemoveQuarantine(entry.cidr)));
    batch.extend(stored.held.iter().map(|entry| Write::RemoveQuarantine(entry.cidr)));
    batch.extend(["a", "b", "c"].into_iter().zip(1..).map(|(node, third)| Write::Node(record(node, third))));
    batch.push(Write::Quarantine(quarantined(5, "was")));
    batch.push(Write::Quarantine(quarantined(6, "f")));
    store.commit(batch).await.expect("writable");
    store.load().await.expect("readable")
}

/// What must be true of whatever is left.
fn check(before: &Stored, after: &Stored, at: &str) {
    let (had, has) = (holders(before), holders(after));
    for (cidr, owner) in &had {
        let ends = *cidr == self::cidr(6);
        assert!(ends || has.contains_key(cidr), "{at}: {cidr} of {owner} is free while agents may route to it");
    }
    for node in &before.nodes {
        let name = &node.name;
        let is_there = after.nodes.iter().any(|other| other.name == *name);
        let departs = name.as_str() == "a";
        assert!(is_there || departs, "{at}: {name} is lost");
    }
    assert!(after.unreadable.is_empty(), "{at}: {:?} cannot be read", after.unreadable);
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn wherever_a_commit_ends_no_cidr_is_lost_or_given_twice() {
    let server = ApiServer::start().await;
    for loses_answer in [false, true] {
        let mut requests = 0;
        loop {
            let at = format!("cut after {requests} requests, answer lost: {loses_answer}");
            let before = begin(&server).await;
            let (client, left) = cut_client(&server, requests, loses_answer);
            let store = KubeStore::new(&client, NAMESPACE);
            store.load().await.expect("readable");
            let outcome = store.commit(batch()).await;
            let is_whole = outcome.is_ok() || left.load(Ordering::SeqCst) > 0;
            if outcome.is_err() {
                store.commit(Vec::new()).await.expect_err("it has to be read first");
            }

            let successor = KubeStore::new(&server.client(), NAMESPACE);
            check(&before, &successor.load().await.expect("readable"), &at);
            // Whoever comes next can go on from there, to the same end.
            successor.commit(batch()).await.unwrap_or_else(|error| panic!("{at}: {error}"));
            let end = successor.load().await.expect("readable");
            holders(&end);
            let names: Vec<&str> = end.nodes.iter().map(|node| node.name.as_str()).collect();
            assert_eq!((names, end.held.len()), (vec!["b", "c", "d", "e"], 0), "{at}");
            assert!(end.quarantine.contains(&quarantined(1, "a")), "{at}: {:?}", end.quarantine);
            if is_whole {
                assert!(requests > 5, "the whole batch took {requests} requests only");
                break;
            }
            requests += 1;
        }
    }
}
