//! Working out only what a change concerns gives what working out everything gives.

use std::sync::Arc;

use proptest::prelude::*;
use weft_core::{
    desired::{NexthopIds, all, changed},
    diff::diff,
    kernel::{Objects, Observed},
    membership::{Log, Member, Touched, View},
};

use super::{
    model,
    strategies::{NODES, local, member, member_of, name, settings},
};

fn everything(view: &View, me: &Member, local: &weft_core::desired::Local, ids: &mut NexthopIds) -> Objects {
    let members: Vec<Arc<Member>> = view.members().collect();
    let settings = view.settings().expect("a snapshot was applied");
    all(settings, me, local, members.iter().map(AsRef::as_ref), &[], ids)
}

proptest! {
    #[test]
    fn a_change_worked_out_alone_equals_the_whole(
        settings in settings(),
        local in local(),
        me in member_of(0),
        steps in proptest::collection::vec((member(), proptest::bool::weighted(0.3)), 1..30),
    ) {
        let mut log = Log::new(1, settings.clone(), [me]);
        let mut view = View::new();
        view.apply_snapshot(log.snapshot()).expect("the first");
        let mut ids = NexthopIds::new();
        let mut me = view.member(&name(0)).expect("a member");
        let mut state = everything(&view, &me, &local, &mut ids);
        for (member, departs) in steps.into_iter().filter(|(member, _)| member.name != name(0)) {
            if departs { log.remove(&member.name) } else { log.upsert(member) };
            let touched = view.apply_delta(&log.since(view.revision()).expect("all kept")).expect("no gap");
            let now = view.member(&name(0)).expect("a member");
            if now != me || touched.contains(&Touched::Prefixes) {
                me = now;
                state = everything(&view, &me, &local, &mut ids);
                continue;
            }
            let (mut old, mut new) = (Vec::new(), Vec::new());
            for touched in &touched {
                let Touched::Member { old: before, new: after, .. } = touched else { unreachable!("neither settings nor lengths") };
                old.extend(before.as_deref());
                new.extend(after.as_deref());
            }
            let is_of_a_peer = |address| view.is_of_a_peer(address, &me);
            let (keys, objects) = changed(&settings, &me, &local, &old, &new, is_of_a_peer, &mut ids);
            prop_assert!(objects.keys().all(|key| keys.contains(key)));
            state.retain(|key, _| !keys.contains(key));
            state.extend(objects);
            let mut whole = ids.clone();
            prop_assert_eq!(&state, &everything(&view, &me, &local, &mut whole));
            prop_assert_eq!(&ids, &whole, "an id is held for a gateway that no peer has");
        }
    }

    /// The desired state of any membership can be reached from nothing, and from that of any other.
    #[test]
    fn any_desired_state_follows_any_other(
        local in local(),
        (first, second) in (settings(), settings()),
        (before, after) in (members(), members()),
    ) {
        let mut ids = NexthopIds::new();
        let mut kernel = Observed::default();
        for (settings, members) in [(first, before), (second, after)] {
            let log = Log::new(1, settings, members);
            let mut view = View::new();
            view.apply_snapshot(log.snapshot()).expect("the first");
            let desired = everything(&view, &view.member(&name(0)).expect("a member"), &local, &mut ids);
            let plan = diff(&kernel, &desired, &|_| false, local.device);
            prop_assert_eq!(model::run(&mut kernel, &plan.ops, local.device), Ok(()));
            prop_assert!(diff(&kernel, &desired, &|_| false, local.device).is_empty());
        }
    }
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    (0..NODES).map(member_of).collect::<Vec<_>>()
}
