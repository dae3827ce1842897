//! The end of a node: what the loop takes away, and that nothing makes it begin again.

use std::time::Duration;

use weft_agent::engine::{EngineError, Problem};
use weft_core::{
    kernel::{Key, Value},
    standing::Reason,
};

use super::{
    attached, route, without_sysctls,
    world::{kernel, member, run},
};

fn leaving() -> Problem {
    Problem::new(Reason::CleaningUp, "as ordered")
}

#[test]
fn everything_of_ours_goes_and_nothing_brings_it_back() {
    let shared = kernel();
    let pod = attached(7);
    shared.add_link(pod.link);
    run(shared.clone(), vec![pod.clone()], async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        let foreign = route("203.0.113.0/24");
        world.kernel.hold(foreign);
        world.handle.halt(leaving()).await.expect("the loop runs");
        assert!(!without_sysctls(&world.kernel.objects()).is_empty(), "it has removed something without being told");
        let status = world.status.borrow().clone();
        assert_eq!((status.ready, status.problem), (false, Some(leaving())));

        let removed = world.handle.clear().await.expect("it can be removed");
        assert!(removed > 5, "{removed} objects");
        assert_eq!(without_sysctls(&world.kernel.objects()), Default::default());
        assert!(world.kernel.foreign().contains(&foreign), "somebody else's route is gone");
        assert_eq!(world.handle.clear().await.expect("the loop runs"), 0, "the second time there is nothing");

        // Neither a member, nor an event, nor time, nor a pod.
        world.log.upsert(member(3, false));
        let snapshot = world.log.snapshot();
        let told = snapshot.digests().into();
        world.tell(weft_agent::controller::Update::Snapshot(snapshot, told)).await;
        world.kernel.lose_events(true);
        world.kernel.lose_events(false);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let refused = world.handle.ensure_pod(pod.clone()).await.expect_err("the node is being left");
        assert!(matches!(refused, EngineError::Halted), "{refused}");
        world.handle.remove_pod(pod.link).await.expect("a pod can always go");
        assert_eq!(without_sysctls(&world.kernel.objects()), Default::default(), "it was put back");
        assert!(!world.status.borrow().ready);
    });
}

#[test]
fn nothing_is_removed_before_the_loop_stands_still() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        world.handle.clear().await.expect_err("it would put everything back");
        assert!(matches!(world.kernel.objects().get(&Key::Device), Some(Value::Device(_))));
    });
}

#[test]
fn what_cannot_be_removed_is_told_and_tried_again() {
    run(kernel(), Vec::new(), async |mut world| {
        world.log.upsert(member(2, false));
        world.snapshot().await;
        world.handle.halt(leaving()).await.expect("the loop runs");
        world.kernel.interrupt_reads(100);
        let failed = world.handle.clear().await.expect_err("the kernel cannot be read");
        assert!(matches!(failed, EngineError::Kernel(_)), "{failed}");
        world.kernel.interrupt_reads(0);
        world.handle.clear().await.expect("now it can");
        assert_eq!(without_sysctls(&world.kernel.objects()), Default::default());
    });
}
