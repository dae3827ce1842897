//! The contract that every Lease keeps, whoever keeps the record.
//!
//! Owns what the election relies on. Must never say how the record is kept: the tests of each one bring it, never held before.

use std::time::Duration;

use weft_controller::leader::{Bid, Claim, Lease, LeaseError, Seen};

fn claim(holder: &str, port: u16) -> Claim {
    let address = ([192, 0, 2, 7], port).into();
    Claim { holder: holder.to_owned(), address, duration: Duration::from_secs(15) }
}

fn bid(seen: &Seen, transitions: i32, acquires: bool) -> Bid {
    Bid { version: seen.version.clone(), transitions, acquires }
}

fn is_of(seen: &Seen, claim: &Claim, transitions: i32) {
    assert_eq!(seen.holder.as_ref(), Some(&claim.holder));
    assert_eq!(seen.address, Some(claim.address), "agents would not find it");
    assert_eq!((seen.duration, seen.transitions), (Some(claim.duration), Some(transitions)));
}

async fn refused(lease: &mut impl Lease, bid: &Bid, claim: &Claim) {
    let answer = lease.hold(bid, claim).await;
    assert!(matches!(answer, Err(LeaseError::Conflict)), "a write that came too late brought {answer:?}");
}

/// `candidate` makes one more way to the same record.
pub(crate) async fn keeps_the_contract<L: Lease>(candidate: impl Fn() -> L) {
    let (mut one, mut two) = (candidate(), candidate());
    let (first, second) = (claim("first", 1), claim("second", 2));
    let free = one.read().await.expect("readable");
    assert_eq!((free.holder.as_ref(), free.address), (None, None), "nobody has held it yet");
    assert_eq!(two.read().await.expect("readable"), free, "both see the same");

    let held = one.hold(&bid(&free, 0, true), &first).await.expect("nobody is in the way");
    is_of(&held, &first, 0);
    assert_ne!(held.version, free.version, "a write that nobody can tell from none");
    assert_eq!(held.uid, free.uid, "it is the same record");
    refused(&mut two, &bid(&free, 0, true), &second).await;
    assert_eq!(two.read().await.expect("readable"), held, "a refused write changed something");

    let renewed = one.hold(&bid(&held, 0, false), &first).await.expect("it is its own");
    is_of(&renewed, &first, 0);
    assert_ne!(renewed.version, held.version, "a renewal that nobody sees");
    refused(&mut one, &bid(&held, 0, false), &first).await;

    assert!(!two.release("second").await.expect("readable"), "it gave back what is not its own");
    assert_eq!(two.read().await.expect("readable"), renewed);
    assert!(one.release("first").await.expect("writable"), "it was its own");
    let released = two.read().await.expect("readable");
    assert_eq!((released.holder.as_ref(), released.address, released.transitions), (None, None, Some(0)));

    let taken = two.hold(&bid(&released, 1, true), &second).await.expect("nobody is in the way");
    is_of(&taken, &second, 1);
    refused(&mut one, &bid(&renewed, 0, false), &first).await;
    assert_eq!(one.read().await.expect("readable"), taken, "who led before took it back");
}
