//! `weft node`.

use serde::Serialize;
use weft_core::types::NodeName;
use weft_proto::v1;

use crate::{
    args::{NodeArgs, Output, Target},
    connect, output,
};

#[derive(Serialize)]
struct Deleted {
    node: String,
    revision: Option<String>,
}

/// Ends a node's membership.
pub(crate) async fn delete(target: &Target, args: &NodeArgs) -> anyhow::Result<()> {
    let node = NodeName::new(&args.node)?;
    let request = v1::DeleteNodeRequest { node: node.to_string() };
    let controller = connect::standalone(target).await?;
    let answer = controller.ask(async |mut client| client.delete_node(request.clone()).await).await?;
    let revision = answer.revision.map(|revision| format!("{}.{}", revision.epoch, revision.sequence));
    let deleted = Deleted { node: node.to_string(), revision };
    output::text(&match args.output {
        Output::Json => output::json(&deleted, false)?,
        Output::Yaml => output::yaml(&deleted)?,
        Output::Table | Output::Wide => format!("node {} deleted\n", deleted.node),
    })
}
