//! How often what came about: a simulation in which nothing happens proves nothing.
//!
//! Owns the counters. Must never decide anything.

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// How often what came about.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(super) struct Counts {
            $($(#[$doc])* pub(super) $name: u64,)+
        }

        impl Counts {
            pub(super) const fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    terms,
    joins,
    deletions,
    released,
    snapshots,
    deltas,
    currents,
    overdue,
    resyncs,
    exhausted,
    moved,
    stale,
    /// Lies about an address that another node has, on the liar's own stream.
    claims,
    /// The same on a stream that comes from there.
    spoofs,
    /// Lies about an address that no node can have.
    strange_claims,
    /// Floods of facts that change.
    floods,
    /// Lies about what peers do.
    accusations,
    /// Revisions acknowledged that are not held, and digests told of what is not.
    false_holdings,
    /// Claims of a liar that were refused.
    turned_away,
    /// Facts that came too fast and waited.
    paced,
    /// Looks at a connected honest node that a liar accuses.
    accused,
    /// Looks at an honest node that is connected, proves its address and has said nothing, after somebody else did.
    bystanders,
    /// Writes of the controller's store that took long, and longer than agents have time to acknowledge.
    stalls,
    long_stalls,
    /// Memberships that an agent's disk took late, and not at all.
    slow_saves,
    failed_saves,
    /// Kernels whose pairs of outer and inner source were looked at.
    bound,
}
