//! The contract of [`Kernel`]: the same scenarios against the real kernel, in fresh network namespaces, and the fake one.
//! What the fake forgives and the kernel does not would make every test of the loop worthless.

mod hands;
mod host;
mod objects;
mod scenarios;

use hands::{FakeHands, RealHands};
use weft_agent::kernel::{Linux, fake::FakeKernel};

use crate::netns::{block_on, inside};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod real {
            use super::*;
            $(#[test]
            fn $name() {
                inside(concat!("contract::real::", stringify!($name)), || async {
                    let hands = RealHands::new().await;
                    let kernel = Linux::open(objects::device()).expect("sockets");
                    scenarios::$name(kernel, hands).await;
                });
            })*
        }

        mod fake {
            use super::*;
            $(#[test]
            fn $name() {
                let kernel = FakeKernel::new(objects::device());
                block_on(scenarios::$name(kernel.clone(), FakeHands::new(kernel)));
            })*
        }
    };
}

contract! {
    everything_put_is_read_back,
    few_keys_read_as_all_do,
    objects_change_in_place,
    the_device_changes_in_place,
    an_address_takes_routes_along,
    deletion_leaves_nothing,
    deleting_the_device_takes_what_is_on_it,
    a_device_down_loses_what_it_carries,
    a_nexthop_takes_its_routes_along,
    others_places_are_left_alone,
    an_altered_route_is_taken_back,
    one_failure_does_not_stop_the_rest,
    meddling_is_reported,
    the_underlay_is_found,
}

macro_rules! real_only {
    ($($name:ident),* $(,)?) => {
        mod host_only {
            use super::*;
            $(#[test]
            fn $name() {
                inside(concat!("contract::host_only::", stringify!($name)), || async {
                    let _hands = RealHands::new().await;
                    host::$name(Linux::open(objects::device()).expect("sockets")).await;
                });
            })*
        }
    };
}

real_only! {
    a_lost_mark_is_put_back,
    an_unsound_device_is_made_anew,
    anothers_link_of_our_name_stays,
    a_taken_vni_is_told_once,
    our_own_changes_are_no_news,
    who_cannot_follow_is_told,
    the_route_names_the_underlay,
    without_a_default_route_the_controllers_address_names_the_underlay,
}
