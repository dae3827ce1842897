//! What a stream holds back from an agent that does not read.

use std::task::{Context, Poll};

use futures::task::noop_waker;
use http_body::Body;
use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::{Log, Member, More},
    settings::{Mode, Settings},
    types::{Family, Mac, PerFamily, Vni},
};

use super::*;

fn member(n: u8, underlay_mtu: u32) -> Member {
    Member {
        name: format!("n{n}").parse().expect("a name"),
        incarnation: 1,
        pod_cidrs: PerFamily::default(),
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, 0, n]) },
        underlay: PerFamily::default(),
        underlay_mtu,
        more: More::default(),
    }
}

fn fanout() -> Arc<Fanout> {
    let vni = Vni::new(87).expect("in range");
    let settings = Settings {
        pools: Vec::new(),
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer: Family::V4 },
        more: More::default(),
    };
    Arc::new(Fanout::new(Log::new(1, settings, [member(0, 1500)])))
}

/// The frames that HTTP/2 could take now.
fn take(body: &mut (impl Body<Data = Bytes, Error = Infallible> + Unpin)) -> Vec<Frame<Bytes>> {
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let mut frames = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) = std::pin::Pin::new(&mut *body).poll_frame(&mut context) {
        frames.push(frame);
    }
    frames
}

#[test]
fn changes_wait_in_the_log_while_frames_are_under_way() {
    let fanout = fanout();
    let (outbound, _ends) = Outbound::new(&fanout, fanout.begin(None, None));
    let mut body = Box::pin(outbound.into_body());
    let mut held = take(&mut body);
    let snapshot = held.len();
    for mtu in 1400..1500 {
        fanout.upsert(member(1, mtu));
        fanout.publish();
        held.extend(take(&mut body));
    }
    assert!(snapshot >= 2, "a snapshot of one member is a chunk and an end");
    assert_eq!(held.len(), UNDER_WAY, "frames queue up for an agent that does not read");

    held.clear();
    let rest = take(&mut body);
    assert_eq!(rest.len(), 1, "what waited is more than the latest of the one member");
    let all: usize = rest.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
    assert!(all < 120, "one change takes {all} octets");
    assert!(take(&mut body).is_empty(), "the same was sent twice");
}

#[test]
fn a_stream_that_is_told_to_end_does_so_without_a_reader() {
    let fanout = fanout();
    let (outbound, ends) = Outbound::new(&fanout, fanout.begin(None, None));
    let mut body = Box::pin(outbound.into_body());
    let held = take(&mut body);
    ends.end.send(Status::aborted("replaced")).expect("it listens");
    let last = take(&mut body);
    let trailers = last[0].trailers_ref().expect("trailers");
    assert_eq!(trailers["grpc-status"], "10");
    assert_eq!(trailers["grpc-message"], "replaced");
    assert_eq!(last.len(), 1, "something follows the trailers");
    drop(held);
}

#[test]
fn the_order_to_clean_up_comes_between_messages_and_is_the_last() {
    let fanout = fanout();
    let (outbound, _ends) = Outbound::new(&fanout, fanout.begin(None, None));
    let mut body = Box::pin(outbound.into_body());
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    // The first half of a chunk has left when the order comes: the other half has to follow.
    let Poll::Ready(Some(Ok(first))) = body.as_mut().poll_frame(&mut context) else { panic!("a snapshot is there") };
    fanout.order_clean_up(true);
    let rest = take(&mut body);
    let mut bytes = first.data_ref().expect("data").to_vec();
    rest.iter().filter_map(Frame::data_ref).for_each(|data| bytes.extend_from_slice(data));
    assert_eq!(kinds(&bytes), ["chunk", "clean up"]);

    drop(rest);
    fanout.upsert(member(1, 1400));
    fanout.publish();
    assert!(take(&mut body).is_empty(), "something follows the order");

    let (outbound, _ends) = Outbound::new(&fanout, fanout.begin(None, None));
    let frames = take(&mut Box::pin(outbound.into_body()));
    let first = frames[0].data_ref().expect("data");
    assert_eq!((frames.len(), kinds(first)), (1, vec!["clean up"]), "a later stream learns members first");
}

#[test]
fn a_stream_that_waits_is_woken_by_the_order() {
    let fanout = fanout();
    let (outbound, _ends) = Outbound::new(&fanout, fanout.begin(None, None));
    let mut body = Box::pin(outbound.into_body());
    drop(take(&mut body));
    let woken = Arc::new(Woken::default());
    let waiting = futures::task::waker(Arc::clone(&woken));
    assert!(body.as_mut().poll_frame(&mut Context::from_waker(&waiting)).is_pending());
    fanout.order_clean_up(true);
    assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst), "it sleeps on");
    assert_eq!(take(&mut body).len(), 1);
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl futures::task::ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// What a stream of whole gRPC messages consists of.
fn kinds(mut bytes: &[u8]) -> Vec<&'static str> {
    use weft_proto::v1::watch_response::Message;

    let mut kinds = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).expect("it fits");
        let (message, after) = rest.split_at(length);
        let response: weft_proto::v1::WatchResponse = prost::Message::decode(message).expect("a message");
        kinds.push(match response.message.expect("a kind") {
            Message::Current(_) => "current",
            Message::SnapshotChunk(_) => "chunk",
            Message::SnapshotEnd(_) => "end",
            Message::Delta(_) => "delta",
            Message::CleanUp(_) => "clean up",
        });
        bytes = after;
    }
    assert!(bytes.is_empty(), "{} octets are left over", bytes.len());
    kinds
}
