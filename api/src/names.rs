//! Names of the objects that several programs look for.
//!
//! Owns the spelling; the chart's templates use the same. Must never depend on a release's name: there is one Weft in a
//! cluster, as there is one device on a node.

/// API group of the resources.
pub const GROUP: &str = "weft.dev";
/// The Lease that the controllers compete for, and the name of their Deployment, Service and account.
pub const CONTROLLER: &str = "weft-controller";
/// The agents' account and DaemonSet.
pub const AGENT: &str = "weft-agent";
/// Annotation of the Lease in which its holder says where agents reach it, as ADDRESS:PORT.
pub const LEADER_ADDRESS: &str = "weft.dev/leader-address";
/// ConfigMap with what belongs to the cluster as a whole: term, settings, and how an uninstallation stands.
pub const CLUSTER: &str = "weft-cluster";
/// Secret with the authority's certificate and key, and ConfigMap with the certificate alone.
pub const CA: &str = "weft-ca";
/// Key of the certificate in both.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Key of the private key in the Secret.
pub const CA_KEY: &str = "ca.key";
/// Key in ConfigMap [`CA`] of where agents reach controllers without their Service: one ADDRESS:PORT a line, the leader first.
pub const CONTROLLERS: &str = "controllers";
/// Key of the term in [`CLUSTER`].
pub const EPOCH: &str = "epoch";
/// Key of the settings in [`CLUSTER`], as JSON.
pub const SETTINGS: &str = "settings";
/// Key in [`CLUSTER`] of who allocates pod CIDRs from which pools, as JSON.
pub const ALLOCATION: &str = "allocation";
/// Key of the uninstallation's progress in [`CLUSTER`], as JSON.
pub const UNINSTALL: &str = "uninstall";
/// Annotation of [`CLUSTER`] that asks for the uninstallation. Its value is the object's own UID where an operator asks, which
/// no manifest can hold, or an [`UninstallRequest`](crate::UninstallRequest) as JSON where the chart's hook does.
pub const UNINSTALL_ANNOTATION: &str = "weft.dev/uninstall";
/// Annotation of a Node whose pod CIDRs Weft wrote; its value is [`ALLOCATOR`]. Without it somebody else wrote them.
pub const ALLOCATOR_ANNOTATION: &str = "weft.dev/pod-cidrs";
/// Value of [`ALLOCATOR_ANNOTATION`].
pub const ALLOCATOR: &str = "weft";
/// Metadata key in which a standby names the leader as ADDRESS:PORT.
pub const LEADER_METADATA: &str = "weft-leader";
