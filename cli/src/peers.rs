//! `weft peers`.

#[cfg(test)]
mod golden;
mod kubernetes;
mod row;
mod vtep;

use std::time::{Duration, SystemTime};

use anyhow::Context;
use weft_proto::v1;

use self::row::Row;
use crate::{
    args::{Output, PeersArgs, Target},
    connect::{self, Answerer, refusal},
    output,
};

/// How often an agent is asked again with --watch; its answer is read from the kernel each time.
const AGENT_PERIOD: Duration = Duration::from_secs(1);

/// Prints the peer list, once or after every change.
pub(crate) async fn run(target: &Target, args: &PeersArgs) -> anyhow::Result<()> {
    match (connect::any(target).await?, args.watch) {
        (Answerer::Controller(controller), false) => {
            let answer = controller.ask(async |mut client| client.list_peers(v1::ListPeersRequest {}).await).await?;
            print(&rows(&answer.peers)?, args)
        }
        (Answerer::Controller(controller), true) => {
            let mut stream =
                controller.ask(async |mut client| client.watch_peers(v1::WatchPeersRequest {}).await).await?;
            while let Some(list) = stream.message().await.map_err(|status| refusal(&status))? {
                print(&rows(&list.peers)?, args)?;
            }
            anyhow::bail!("the controller has closed the stream")
        }
        (Answerer::Kubernetes(cluster), false) => kubernetes::list(&cluster, args).await,
        (Answerer::Kubernetes(cluster), true) => kubernetes::watch(&cluster, args).await,
        (Answerer::Agent(mut agent), watch) => {
            let mut before = Vec::new();
            loop {
                let answer =
                    agent.ask(async |mut client| client.list_local_peers(v1::ListLocalPeersRequest {}).await).await?;
                let rows = rows(&answer.peers)?;
                if rows != before {
                    print(&rows, args)?;
                }
                if !watch {
                    return Ok(());
                }
                before = rows;
                tokio::time::sleep(AGENT_PERIOD).await;
            }
        }
    }
}

fn rows(peers: &[v1::Peer]) -> anyhow::Result<Vec<Row>> {
    peers.iter().map(Row::new).collect::<Result<_, _>>().context("the answer cannot be read")
}

fn print(rows: &[Row], args: &PeersArgs) -> anyhow::Result<()> {
    output::text(&render(rows, args, SystemTime::now())?)
}

/// The list as it is printed, ages as of `now`.
fn render(rows: &[Row], args: &PeersArgs, now: SystemTime) -> anyhow::Result<String> {
    Ok(match args.output {
        Output::Json => output::json(&rows, args.watch)?,
        Output::Yaml => format!("{}{}", if args.watch { "---\n" } else { "" }, output::yaml(&rows)?),
        Output::Table | Output::Wide => {
            let wide = args.output == Output::Wide;
            let mut table = output::table(&row::header(wide));
            table.add_rows(rows.iter().map(|row| row.cells(wide, now)));
            output::lines(&table) + if args.watch { "\n" } else { "" }
        }
    })
}
