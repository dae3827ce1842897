//! The Lease object against a real API server.

#[path = "../contracts/lease.rs"]
mod contract;

use weft_controller::KubeLease;

use crate::api::{ApiServer, NAMESPACE};

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn the_lease_keeps_the_contract() {
    let server = ApiServer::start().await;
    contract::keeps_the_contract(|| KubeLease::new(server.client(), NAMESPACE)).await;
}
