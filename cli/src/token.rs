//! `weft token`.

use serde::Serialize;
use weft_core::types::NodeName;
use weft_proto::v1;

use crate::{
    args::{Output, Target, TokenArgs},
    connect,
    output::{self, rfc3339},
};

#[derive(Serialize)]
struct Token {
    node: String,
    token: String,
    expires: Option<String>,
}

/// Makes a join token and prints it.
pub(crate) async fn create(target: &Target, args: &TokenArgs) -> anyhow::Result<()> {
    let node = NodeName::new(&args.node)?;
    let request = v1::CreateTokenRequest { node: node.to_string(), lifetime_seconds: args.lifetime };
    let controller = connect::standalone(target).await?;
    let answer = controller.ask(async |mut client| client.create_token(request.clone()).await).await?;
    let token = Token {
        node: node.to_string(),
        token: answer.token,
        expires: rfc3339(answer.expires_unix.saturating_mul(1000)),
    };
    output::text(&match args.output {
        Output::Json => output::json(&token, false)?,
        Output::Yaml => output::yaml(&token)?,
        Output::Table | Output::Wide => format!("{}\n", token.token),
    })
}
