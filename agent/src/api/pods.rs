//! Pods on the wire: what the plugin asks, and what it is answered.
//!
//! Owns the gRPC code of each error, which the plugin makes CNI's codes of. Must never decide anything: the address book does.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tonic::Status;
use weft_core::types::Family;
use weft_proto::{convert::to_cidr, v1};

use crate::{
    pods::{Allocation, PodError, StoreError},
    veth::{AttachmentKey, gateway},
};

/// An attachment as it was named.
pub(super) fn key(attachment: Option<v1::Attachment>) -> Result<AttachmentKey, Status> {
    let attachment = attachment.ok_or_else(|| Status::invalid_argument("attachment: missing"))?;
    AttachmentKey::new(&attachment.container_id, &attachment.interface)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

impl From<&AttachmentKey> for v1::Attachment {
    fn from(key: &AttachmentKey) -> Self {
        Self { container_id: key.container().to_owned(), interface: key.interface().to_string() }
    }
}

/// What a pod gets.
pub(super) fn answer(Allocation { record, mtu }: &Allocation) -> v1::AllocatePodResponse {
    let host = |address: IpAddr| to_cidr(IpNetwork::from(address));
    let gateway = |address: &IpAddr| host(gateway(Family::of(*address))).address;
    v1::AllocatePodResponse {
        addresses: record.addresses.iter().copied().map(host).collect(),
        gateways: record.addresses.iter().map(gateway).collect(),
        mtu: *mtu,
        host_interface: record.link.to_string(),
        host_mac: record.host_mac.octets().to_vec(),
        pod_mac: record.pod_mac.octets().to_vec(),
    }
}

impl From<PodError> for Status {
    fn from(error: PodError) -> Self {
        let text = error.to_string();
        match error {
            PodError::NotReady(_) | PodError::NoPodCidr | PodError::Store(StoreError::Stopped) => {
                Self::unavailable(text)
            }
            PodError::Store(StoreError::Exhausted(_)) => Self::resource_exhausted(text),
            PodError::Store(StoreError::Outside { .. }) => Self::failed_precondition(text),
            PodError::Released(_) => Self::aborted(text),
            PodError::Unknown(_) => Self::not_found(text),
            PodError::Store(StoreError::Disk { .. })
            | PodError::HostSide { .. }
            | PodError::Interface { .. }
            | PodError::Note { .. } => Self::internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use weft_core::types::PerFamily;

    use super::*;
    use crate::pods::Record;

    #[test]
    fn the_plugin_hears_which_kind_of_error_it_is() {
        let key = key(Some(v1::Attachment { container_id: "a".into(), interface: "eth0".into() })).expect("valid");
        for (error, code) in [
            (PodError::NotReady("no device".into()), Code::Unavailable),
            (PodError::NoPodCidr, Code::Unavailable),
            (PodError::Store(StoreError::Stopped), Code::Unavailable),
            (
                PodError::Store(StoreError::Outside { key: key.clone(), address: [10, 1, 0, 1].into() }),
                Code::FailedPrecondition,
            ),
            (PodError::Released(key.clone()), Code::Aborted),
            (PodError::Unknown(key), Code::NotFound),
        ] {
            let text = error.to_string();
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (code, text.as_str()));
        }
        let nameless = v1::Attachment { container_id: String::new(), interface: "eth0".into() };
        for wrong in [None, Some(nameless)] {
            assert_eq!(super::key(wrong).expect_err("names nothing").code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn an_allocation_is_answered_with_the_gateway_of_each_family() {
        let key = AttachmentKey::new("a", "eth0").expect("valid");
        let record = Record {
            link: key.link(),
            host_mac: key.host_mac(),
            pod_mac: key.pod_mac(),
            addresses: PerFamily { v4: Some([10, 1, 0, 1].into()), v6: None },
            netns: String::new(),
            pod: String::new(),
            created: 0,
            key,
        };
        let answer = answer(&Allocation { record, mtu: 1450 });
        assert_eq!(
            (answer.addresses[0].address.as_slice(), answer.addresses[0].prefix),
            ([10, 1, 0, 1].as_slice(), 32)
        );
        assert_eq!((answer.gateways, answer.mtu), (vec![vec![169, 254, 87, 1]], 1450));
    }
}
