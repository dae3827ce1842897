//! The agent of this node.
//!
//! Owns the connection to its socket, and a second one where that is over. Must never ask more than twice: an agent that ends both
//! has a reason.

use std::path::{Path, PathBuf};

use tonic::{Response, Status, transport::Channel};
use weft_proto::{
    connect::{self, ConnectError},
    v1::agent_service_client::AgentServiceClient,
};

use super::{LARGEST_ANSWER, refusal};

type Client = AgentServiceClient<Channel>;

/// An agent.
pub(crate) struct Agent {
    socket: PathBuf,
    client: Client,
}

impl Agent {
    /// Connects to its socket.
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, ConnectError> {
        let client = client(&socket).await?;
        Ok(Self { socket, client })
    }

    /// Asks it. The agent ends a connection on which nothing was asked for some seconds: between two questions of somebody who
    /// watches and was stopped meanwhile, or before the first on a host that is very busy. Then it is asked on a new one.
    pub(crate) async fn ask<T>(
        &mut self,
        question: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        let answer = match question(self.client.clone()).await {
            Err(status) if is_of_connection(&status) => {
                self.client = client(&self.socket).await?;
                question(self.client.clone()).await
            }
            answer => answer,
        };
        Ok(answer.map_err(|status| refusal(&status))?.into_inner())
    }
}

async fn client(socket: &Path) -> Result<Client, ConnectError> {
    Ok(Client::new(connect::agent(socket).await?).max_decoding_message_size(LARGEST_ANSWER))
}

/// True if the connection failed, not the call.
fn is_of_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use tokio::{
        io::AsyncReadExt,
        net::{UnixListener, UnixStream},
    };
    use weft_proto::v1::GetAgentStatusRequest;

    use super::*;

    /// Reads up to the request and ends the connection instead of an answer.
    async fn leave(mut client: UnixStream) {
        // The preface, and then frames: length, kind and five bytes more (RFC 9113, sections 3.4 and 4.1). HEADERS is kind 1.
        client.read_exact(&mut [0; 24]).await.expect("a preface");
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            client.read_exact(&mut vec![0; length.try_into().expect("small")]).await.expect("its payload");
            if head[3] == 1 {
                return;
            }
        }
    }

    /// Serves an API that has no call.
    async fn serve(client: UnixStream) {
        let incoming = stream::iter([Ok::<_, std::io::Error>(client)]).chain(stream::pending());
        let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
        server.serve_with_incoming(incoming).await.expect("it serves");
    }

    /// What a client hears after the agent left it `times` before.
    async fn heard(times: usize) -> String {
        let path = std::env::temp_dir().join(format!("weft-left-{}-{times}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        let agent = tokio::spawn(async move {
            for _ in 0..times {
                leave(listener.accept().await.expect("a client").0).await;
            }
            serve(listener.accept().await.expect("a client").0).await;
        });
        let mut client = Agent::connect(path.clone()).await.expect("it listens");
        let answer = client.ask(async |mut client| client.get_agent_status(GetAgentStatusRequest {}).await).await;
        agent.abort();
        let _ = std::fs::remove_file(&path);
        answer.expect_err("there is no such call").to_string()
    }

    #[tokio::test]
    async fn a_connection_that_the_agent_ended_is_made_anew_and_once_only() {
        let answered = "the other side is of another version";
        assert!(heard(0).await.starts_with(answered));
        assert!(heard(1).await.starts_with(answered), "it was not asked again");
        assert!(!heard(2).await.starts_with(answered), "it was asked more than twice");
    }
}
