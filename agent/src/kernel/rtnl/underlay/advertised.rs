//! The links that listen to router advertisements (RFC 4861, RFC 4862).
//!
//! Once forwarding is on, the kernel heeds advertisements only where accept_ra is 2 (`ipv6_accept_ra` in
//! include/net/ipv6.h): a host would lose its address and default route, or never get them. Must never name a link of ours,
//! a bridge or a veth: what hangs there, such as a pod, must not be able to configure its host.

use std::collections::BTreeSet;

use weft_core::types::{Family, LinkName};

use super::{ANY_LINK, Rtnl};
use crate::kernel::{
    KernelError,
    rtnl::{
        connection::Part,
        link::Link,
        request::no_such_table,
        route::{self, Found},
    },
};

impl Rtnl {
    /// The underlay link, whether or not an advertisement has come yet, and every other link that has an address or a route
    /// from one.
    pub(super) async fn advertised_links(&mut self, underlay: u32) -> Result<BTreeSet<LinkName>, KernelError> {
        let mut indexes = self.links_with_advertised_routes().await?;
        let addresses = self.link_addresses(Family::V6, ANY_LINK).await?;
        indexes.extend(addresses.iter().filter(|address| address.by_router_advertisement).map(|address| address.link));
        indexes.retain(|index| self.links.get(*index).is_some_and(|link| self.may_listen(link)));
        indexes.insert(underlay);
        Ok(indexes.into_iter().filter_map(|index| self.links.name(index)).collect())
    }

    fn may_listen(&self, link: &Link) -> bool {
        self.can_carry(link) && !link.is_of_pod() && !link.leads_to_guests
    }

    async fn links_with_advertised_routes(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let mut found = BTreeSet::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => {
                let route = Found::read(payload).filter(Found::by_router_advertisement);
                found.extend(route.and_then(|route| route.link));
            }
            Part::Again => found.clear(),
        };
        match self.connection.dump(&route::dump_advertised(), "routes by advertisement", sink).await {
            Err(error) if no_such_table(&error) => {}
            other => other?,
        }
        Ok(found)
    }
}
