//! The reconcile loop over a kernel that fails on demand: what it puts right, what it leaves alone, and what a change
//! costs.

mod leaving;
mod world;

use std::{sync::Arc, time::Duration};

use rustix::io::Errno;
use weft_agent::controller::{Held, Update};
use weft_core::{
    desired::Pod,
    diff::Op,
    kernel::{Key, Objects, Part, Seen, Value},
    membership::{Digest, Digests, Member, More},
    nft::SetName,
    standing::Reason,
    types::{Family, Mac, PerFamily, Revision},
};
use world::{kernel, link, member, run, run_on, tempdir};

fn route(text: &str) -> Key {
    let to = text.parse().expect("a network");
    Key::Route(to, weft_core::kernel::metric(&to))
}

/// What of the kernel's objects a state is about: sysctls stay as they are when we go.
fn without_sysctls(objects: &Objects) -> Objects {
    objects.iter().filter(|(key, _)| !matches!(key, Key::Sysctl(_))).map(|(k, v)| (*k, v.clone())).collect()
}

#[test]
fn a_membership_becomes_kernel_objects_and_a_restart_changes_none() {
    let shared = kernel();
    run(shared.clone(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, true));
        world.log.upsert(member(3, false));
        world.snapshot().await;
        let objects = world.kernel.objects();
        assert!(matches!(objects.get(&Key::Device), Some(Value::Device(_))));
        for cidr in ["10.244.2.0/24", "10.244.3.0/24", "fd44:0:0:2::/64", "fd44:0:0:3::/64"] {
            assert!(objects.contains_key(&route(cidr)), "no route to {cidr}");
        }
    });
    shared.take_applied();
    run(shared.clone(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, true));
        world.log.upsert(member(3, false));
        world.snapshot().await;
        assert_eq!(world.kernel.take_applied(), [], "a restart touched what was right");
    });
}

#[test]
fn a_node_reaches_itself_in_the_families_it_has() {
    run(kernel(), Vec::new(), async |mut world| {
        let mut me = member(1, true);
        me.pod_cidrs.v6 = None;
        world.log.upsert(me);
        world.snapshot().await;
        let peers = world.handle.peers().await.expect("a membership");
        let families: Vec<_> = peers[0].paths.iter().map(|path| path.family).collect();
        assert_eq!(families, [Family::V4]);
    });
}

#[test]
fn without_a_complete_view_nothing_is_removed() {
    let shared = kernel();
    run(shared.clone(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
    });
    let before = shared.objects();
    shared.take_applied();
    run(shared.clone(), Vec::new(), async |mut world| {
        let snapshot = world.log.snapshot();
        let resyncs = world.held.borrow().resyncs;
        world.tell(Update::Snapshot(snapshot, Digests::default().into())).await;
        world.held.wait_for(|held| held.resyncs > resyncs).await.expect("a wrong digest is refused");
        let gap = world.gap();
        world.tell(Update::Delta(gap)).await;
        world.held.wait_for(|held| held.resyncs > resyncs + 1).await.expect("a gap is refused");
        world.log.remove(&member(1, true).name);
        let snapshot = world.log.snapshot();
        let told = snapshot.digests().into();
        world.tell(Update::Snapshot(snapshot, told)).await;
        let left_out = |status: &weft_agent::engine::Status| {
            status.problem.as_ref().is_some_and(|problem| problem.reason == Reason::NotMember)
        };
        world.status.wait_for(left_out).await.expect("it says that it is no member");
        assert_eq!(world.kernel.take_applied(), []);
        assert_eq!(world.kernel.objects(), before);
    });
}

#[test]
fn one_peer_costs_few_requests() {
    let rtnetlink = |ops: &[Op]| ops.iter().filter(|op| op.key().part() != Part::Nft).count();
    run(kernel(), Vec::new(), async |mut world| {
        for n in 2..60 {
            world.log.upsert(member(n, n % 2 == 0));
        }
        world.snapshot().await;
        world.kernel.take_applied();
        world.log.upsert(member(70, false));
        world.delta().await;
        let joined = world.kernel.take_applied();
        assert!(rtnetlink(&joined) <= 7, "joining, dual stack: {joined:?}");
        let mut moved = member(70, false);
        moved.underlay.v4 = Some("198.51.100.71/24".parse().expect("valid"));
        world.log.upsert(moved);
        world.delta().await;
        let changed = world.kernel.take_applied();
        assert!(rtnetlink(&changed) == 1, "another underlay address is another FDB entry: {changed:?}");
        world.log.remove(&member(70, false).name);
        world.delta().await;
        let left = world.kernel.take_applied();
        assert!(rtnetlink(&left) <= 7, "leaving, dual stack: {left:?}");
        assert!(!world.kernel.objects().contains_key(&route("10.244.70.0/24")));
    });
}

#[test]
fn drift_is_put_back_and_counted() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        let wanted = world.kernel.objects();
        for (round, (key, value)) in (1..).zip(&wanted) {
            if matches!(key, Key::Sysctl(_)) {
                continue;
            }
            let repairs = world.status.borrow_and_update().repairs;
            let delete = Op::Delete { key: *key, old: Seen::As(value.clone()) };
            world.kernel.meddle(&delete).expect("it is there");
            world.status.wait_for(|s| s.repairs > repairs && s.ready).await.expect("the loop runs");
            assert_eq!(world.kernel.objects(), wanted, "round {round}: {key} was not put back as it was");
        }
    });
}

#[test]
fn drift_waits_no_longer_than_seconds_for_a_kernel_that_gave_no_answer() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        let (key, repairs) = (route("10.244.2.0/24"), world.status.borrow_and_update().repairs);
        let delete = Op::Delete { key, old: Seen::As(world.kernel.objects()[&key].clone()) };
        world.kernel.interrupt_reads(20);
        world.kernel.meddle(&delete).expect("it is there");
        world.status.wait_for(|status| !status.ready).await.expect("the loop runs");
        while world.kernel.interrupted_reads() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let heard = tokio::time::Instant::now();
        world.status.wait_for(|status| status.repairs > repairs && status.ready).await.expect("the loop runs");
        // Virtual time.
        assert!(heard.elapsed() < Duration::from_secs(5), "put back after {:?}", heard.elapsed());
    });
}

#[test]
fn every_failing_operation_is_overcome() {
    for distance in 0..25 {
        for lost_ack in [false, true] {
            let kernel = kernel();
            if lost_ack {
                kernel.lose_ack(distance);
            } else {
                kernel.refuse(distance, Errno::NOBUFS);
            }
            kernel.interrupt_reads(distance % 3);
            run(kernel, Vec::new(), async |mut world| {
                world.log.upsert(member(2, true));
                world.log.upsert(member(3, false));
                world.snapshot().await;
                assert!(world.kernel.objects().contains_key(&route("10.244.3.0/24")));
            });
        }
    }
}

#[test]
fn a_foreign_route_in_our_place_is_named_and_left_alone() {
    let kernel = kernel();
    let place = route("10.244.2.0/24");
    kernel.hold(place);
    run(kernel, Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        let snapshot = world.log.snapshot();
        let told = snapshot.digests().into();
        world.tell(Update::Snapshot(snapshot, told)).await;
        world.blamed("10.244.2.0/24").await;
        assert!(world.kernel.foreign().contains(&place), "somebody else's route was taken away");
        world.kernel.release(&place);
        world.blames_nobody().await;
        assert!(world.kernel.objects().contains_key(&place), "the place is free and was not taken");
    });
}

// Node 3 has got node 2's address, and node 2's loss of it is told later.
#[test]
fn an_address_that_moved_stays_its_new_holders_whatever_is_told_of_the_old_one_later() {
    run(kernel(), Vec::new(), async |mut world| {
        let (before, mut winner) = (member(2, false), member(3, false));
        world.log.upsert(before.clone());
        world.log.upsert(winner.clone());
        world.snapshot().await;
        let address = before.underlay.v4.expect("it has one");
        let element = Key::Element(SetName::Peers(Family::V4), address.address().into());
        winner.underlay.v4 = Some(address);
        world.log.upsert(winner);
        world.delta().await;
        world.kernel.take_applied();
        world.log.upsert(Member { underlay: PerFamily::default(), ..before });
        world.delta().await;
        assert!(world.kernel.objects().contains_key(&element), "the winner's packets are a stranger's now");
        let is_put_again = world.kernel.take_applied().iter().any(|op| *op.key() == element);
        assert!(!is_put_again, "they were a stranger's for a moment");
        world.log.remove(&member(3, false).name);
        world.delta().await;
        assert!(!world.kernel.objects().contains_key(&element), "nobody has it any more");
    });
}

fn sets(world: &world::World) -> Vec<String> {
    let objects = world.kernel.objects();
    let Some(Value::Ruleset(ruleset)) = objects.get(&Key::Ruleset) else { panic!("there are rules") };
    ruleset.sets().into_iter().filter(|set| matches!(set, SetName::Bound(_))).map(|set| set.to_string()).collect()
}

// Its packets would be dropped for ever if only its own objects were put.
#[test]
fn a_pod_cidr_of_a_new_length_brings_its_rule_and_takes_it_along() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        assert_eq!(sets(&world), ["bound4_4_24", "bound4_6_64"]);
        let mut wide = member(16, false);
        wide.pod_cidrs.v4 = Some("10.244.16.0/20".parse().expect("valid"));
        world.log.upsert(wide.clone());
        world.delta().await;
        assert_eq!(sets(&world), ["bound4_4_20", "bound4_4_24", "bound4_6_64"]);
        let pair = |n: u8, cidr: &str| {
            let outer = std::net::IpAddr::from([198, 51, 100, n]);
            world.kernel.objects().contains_key(&Key::Bound(outer, cidr.parse().expect("valid")))
        };
        assert!(pair(16, "10.244.16.0/20") && pair(2, "10.244.2.0/24"));
        world.log.remove(&wide.name);
        world.delta().await;
        assert_eq!(sets(&world), ["bound4_4_24", "bound4_6_64"]);
        assert!(world.status.borrow().problem.is_none(), "{:?}", world.status.borrow().problem);
    });
}

// It may be the peer's own fault, such as an address that only its own prefix knows for a host's.
#[test]
fn what_one_peer_lacks_keeps_nobody_out_and_no_other_peer_waiting() {
    let kernel = kernel();
    kernel.hold(route("10.244.2.0/24"));
    run(kernel, Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        assert!(world.status.borrow().problem.is_none(), "{:?}", world.status.borrow().problem);
        world.blamed("10.244.2.0/24").await;
        assert_eq!(world.status.borrow().repairs, 0, "somebody is blamed for what nobody did");
        let reads = world.kernel.reads();
        for number in 3..9 {
            world.log.upsert(member(number, number % 2 == 0));
            world.delta().await;
            assert!(world.kernel.objects().contains_key(&route(&format!("10.244.{number}.0/24"))));
        }
        assert_eq!(world.kernel.reads() - reads, 6, "each change is read back, and no more than that");
        world.kernel.release(&route("10.244.2.0/24"));
        world.blames_nobody().await;
        assert!(world.kernel.objects().contains_key(&route("10.244.2.0/24")));
    });
}

// A pod's packets go nowhere without it, whoever the peer is.
#[test]
fn what_the_node_itself_lacks_keeps_it_from_being_ready() {
    let kernel = kernel();
    kernel.hold(Key::Device);
    run(kernel, Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        let snapshot = world.log.snapshot();
        let told = snapshot.digests().into();
        world.tell(Update::Snapshot(snapshot, told)).await;
        world.status.wait_for(|status| status.problem.is_some()).await.expect("the loop runs");
        world.kernel.release(&Key::Device);
        world.applied().await;
    });
}

#[test]
fn what_another_hand_put_right_is_not_reported_until_the_next_full_look() {
    let place = route("10.244.2.0/24");
    let shared = kernel();
    run(shared.clone(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
    });
    let ours = shared.objects()[&place].clone();
    let kernel = kernel();
    kernel.hold(place);
    run(kernel, Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        let snapshot = world.log.snapshot();
        let told = snapshot.digests().into();
        world.tell(Update::Snapshot(snapshot, told)).await;
        world.blamed("10.244.2.0/24").await;
        // Virtual time: by then the loop looks as seldom as it ever does.
        tokio::time::sleep(Duration::from_secs(300)).await;
        world.kernel.mend(place, ours);
        let soon = tokio::time::timeout(Duration::from_secs(5), world.blames_nobody()).await;
        soon.expect("it is still reported when everything has been right for seconds");
    });
}

#[test]
fn what_was_ours_stays_ours_however_long_it_cannot_be_put_back() {
    let kernel = kernel();
    let place = route("10.244.2.0/24");
    run(kernel, Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        // More refusals than one look makes attempts.
        for _ in 0..8 {
            world.kernel.refuse(0, Errno::NOBUFS);
        }
        world.kernel.hold(place);
        world.blamed("10.244.2.0/24").await;
        world.blames_nobody().await;
        assert!(world.kernel.objects().contains_key(&place), "our route, altered, was taken for somebody else's");
    });
}

#[test]
fn pods_keep_their_routes_over_a_restart() {
    let pod = Pod {
        link: link("wpod0000000001"),
        mac: Mac::local([2, 0, 0, 0, 0, 9]),
        addresses: PerFamily { v4: Some([10, 244, 1, 9].into()), v6: None },
    };
    let shared = kernel();
    shared.add_link(pod.link);
    run(shared.clone(), Vec::new(), async |mut world| {
        world.snapshot().await;
        world.handle.ensure_pod(pod.clone()).await.expect("its link is there");
        assert!(world.kernel.objects().contains_key(&route("10.244.1.9/32")));
        assert_eq!(world.handle.check_pod(pod.link).await.expect("the loop runs"), Vec::<String>::new());
    });
    shared.take_applied();
    let before = without_sysctls(&shared.objects());
    run(shared.clone(), vec![pod.clone()], async |mut world| {
        world.snapshot().await;
        assert_eq!(world.kernel.take_applied(), [], "a restart touched a pod's side of the host");
        world.handle.remove_pod(pod.link).await.expect("it is there");
        let after = without_sysctls(&world.kernel.objects());
        assert!(!after.contains_key(&route("10.244.1.9/32")) && after.len() == before.len() - 2);
    });
}

/// A pod of node-1 with one address.
fn attached(n: u8) -> Pod {
    let addresses = PerFamily { v4: Some([10, 244, 1, n].into()), v6: None };
    Pod { link: link(&format!("wpod0123456789{n:x}")), mac: Mac::local([2, 0, 0, 0, 1, n]), addresses }
}

#[test]
fn pods_that_come_and_go_at_once_share_their_passes() {
    run(kernel(), Vec::new(), async |mut world| {
        world.snapshot().await;
        let pods: Vec<Pod> = (1..=14).map(attached).collect();
        pods.iter().for_each(|pod| world.kernel.add_link(pod.link));
        let before = world.kernel.reads();
        let came = futures::future::join_all(pods.iter().map(|pod| world.handle.ensure_pod(pod.clone()))).await;
        assert!(came.iter().all(Result::is_ok), "{came:?}");
        assert!(pods.iter().all(|pod| world.kernel.objects().contains_key(&route(&pod_network(pod)))));
        assert!(world.kernel.reads() - before <= 4, "{} readings for 14 pods", world.kernel.reads() - before);
        let before = world.kernel.reads();
        let gone = futures::future::join_all(pods.iter().map(|pod| world.handle.remove_pod(pod.link))).await;
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
        assert!(!pods.iter().any(|pod| world.kernel.objects().contains_key(&route(&pod_network(pod)))));
        assert!(world.kernel.reads() - before <= 4, "{} readings for 14 pods", world.kernel.reads() - before);
    });
}

fn pod_network(pod: &Pod) -> String {
    format!("{}/32", pod.addresses.v4.expect("IPv4"))
}

#[test]
fn one_pod_that_cannot_be_programmed_fails_alone() {
    run(kernel(), Vec::new(), async |mut world| {
        world.snapshot().await;
        let pods: Vec<Pod> = (1..=3).map(attached).collect();
        [0, 2].into_iter().for_each(|at| world.kernel.add_link(pods[at].link));
        let came = futures::future::join_all(pods.iter().map(|pod| world.handle.ensure_pod(pod.clone()))).await;
        assert_eq!(came.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true], "{came:?}");
    });
}

#[test]
fn links_of_pods_that_are_not_attached_cost_nothing() {
    run(kernel(), Vec::new(), async |mut world| {
        world.snapshot().await;
        let pod = attached(1);
        world.kernel.add_link(pod.link);
        world.handle.ensure_pod(pod.clone()).await.expect("it is programmed");
        let before = world.kernel.reads();
        for n in 2..=9 {
            world.kernel.add_link(attached(n).link);
            world.kernel.remove_link(attached(n).link);
        }
        // An attached one is put back, by a look at it alone.
        let key = route(&pod_network(&pod));
        let value = world.kernel.objects()[&key].clone();
        let repairs = world.status.borrow_and_update().repairs;
        world.kernel.meddle(&Op::Delete { key, old: Seen::As(value) }).expect("it is there");
        world.status.wait_for(|status| status.repairs > repairs).await.expect("the loop runs");
        assert!(world.kernel.objects().contains_key(&key));
        assert_eq!(world.kernel.reads() - before, 2, "before and after the repair");
    });
}

#[test]
fn an_older_controller_s_word_leaves_nothing_that_only_a_newer_one_said() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(Member { more: More::new([0x0a, 1, 5]), ..member(2, false) });
        world.snapshot().await;
        let before = world.held.borrow().clone();
        let found = before.digests.expect("it holds a snapshot");
        assert_ne!(found.more, Digest::default());
        // A controller that was rolled back to 0.1 leads, and finds right what it knows.
        let revision = Revision::new(8, 0);
        world.tell(Update::Current { revision, found, knows_more: false }).await;
        let forgot = |held: &Held| held.revision == Some(revision);
        let held = world.held.wait_for(forgot).await.expect("the loop runs").clone();
        assert_eq!(held.digests, Some(Digests { more: Digest::default(), ..found }));
        assert_eq!(held.resyncs, before.resyncs, "it asks for snapshots that cannot help");
    });
}

#[test]
fn what_version_0_1_kept_is_never_taken_for_the_whole() {
    let dir = Arc::new(tempdir::Dir::new());
    // A run that keeps a membership, in both files; then the one of this version is gone, as after an upgrade.
    run_on(Arc::clone(&dir), kernel(), Vec::new(), async |mut world| {
        world.log.upsert(Member { more: More::new([0x0a, 1, 5]), ..member(2, false) });
        world.snapshot().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let present = dir.0.join("last-good");
    std::fs::remove_file(&present).expect("it was kept");
    for _ in 0..2 {
        run_on(Arc::clone(&dir), kernel(), Vec::new(), async |mut world| {
            let held = world.held.wait_for(|held| held.digests.is_some()).await.expect("the loop runs").clone();
            assert_eq!(held.revision, None, "it asks for what changed since, and never hears the rest");
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        assert!(!present.exists(), "the part was kept as if it were the whole");
    }
}
