//! Pods of a real containerd: chained plugins, hostPort and bandwidth, and its death at any moment.
//!
//! Needs containerd, runc and the reference plugins, and root: `./dev containerd` installs and builds them and runs this.

mod cri;
mod runtime;

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cri::{Metadata, PortMapping, Sandbox, SandboxConfig};
use runtime::Containerd;
use rustix::{
    mount::{MountFlags, mount},
    net::sockopt,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

const PORT: u16 = 80;
const HOST_PORT: u16 = 8080;
/// Bits per second.
const LIMIT: u32 = 20_000_000;
/// What containerd lets through at full speed first, in bytes, and a little more: 2^32 bits.
const BURST: usize = (1 << 29) + (8 << 20);
/// What is measured behind that, in bytes, and what the receiver's buffer may hold of it.
const MEASURED: usize = 6 << 20;
const BUFFER: usize = 256 << 10;

fn sandbox(name: &str) -> SandboxConfig {
    let metadata = Metadata { name: name.to_owned(), uid: name.to_owned(), namespace: "lab".to_owned() };
    SandboxConfig { metadata: Some(metadata), hostname: name.to_owned(), ..SandboxConfig::default() }
}

/// Runs `work` on a thread in a namespace.
fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(netns).with_context(|| netns.display().to_string())?;
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        thread.join().expect("no panic in the namespace")
    })
}

/// Serves one connection in `server` and runs `client` in its namespace with the address to connect to.
fn one_connection<T: Send>(
    server: &Sandbox,
    listen: SocketAddr,
    serve: impl FnOnce(TcpStream) -> Result<T> + Send,
    client: impl FnOnce() -> Result<()> + Send,
) -> Result<T> {
    let listener = inside(&server.netns, || Ok(TcpListener::bind(listen)?))?;
    // What waits unread stays small beside what is measured; connections take it from their listener.
    sockopt::set_socket_recv_buffer_size(&listener, BUFFER)?;
    thread::scope(|scope| {
        let served = scope.spawn(move || serve(listener.accept()?.0));
        client()?;
        served.join().expect("no panic while serving")
    })
}

/// Asks and is answered.
fn echo(server: &Sandbox, listen: SocketAddr, netns: &Path, to: SocketAddr) -> Result<()> {
    let answer = |mut stream: TcpStream| -> Result<()> {
        let mut text = [0; 4];
        stream.read_exact(&mut text)?;
        Ok(stream.write_all(&text)?)
    };
    let ask = || {
        inside(netns, || {
            let mut stream =
                TcpStream::connect_timeout(&to, Duration::from_secs(20)).with_context(|| to.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"weft")?;
            let mut text = [0; 4];
            stream.read_exact(&mut text)?;
            ensure!(&text == b"weft");
            Ok(())
        })
    };
    one_connection(server, listen, answer, ask)
}

/// How long [`MEASURED`] bytes take once the burst is used up. A busy machine makes it longer, and nothing makes it shorter than
/// the limit allows, but for what waits in the receiver's buffer.
fn time_behind_the_burst(server: &Sandbox, client: &Sandbox) -> Result<Duration> {
    let to = SocketAddr::new(server.addresses[0], 5001);
    let receive = |mut stream: TcpStream| -> Result<Duration> {
        let mut buffer = vec![0; 1 << 16];
        let mut read = |wanted: usize| -> Result<Duration> {
            let (began, mut left) = (Instant::now(), wanted);
            while left > 0 {
                let length = stream.read(&mut buffer)?;
                ensure!(length > 0, "the sender has ended with {left} bytes to come");
                left = left.saturating_sub(length);
            }
            Ok(began.elapsed())
        };
        read(BURST)?;
        read(MEASURED)
    };
    let send = || {
        inside(&client.netns, || {
            let mut stream = TcpStream::connect(to)?;
            let block = vec![0; 1 << 16];
            // Until the other end has seen enough.
            while stream.write_all(&block).is_ok() {}
            Ok(())
        })
    };
    one_connection(server, to, receive, send)
}

async fn pods(agent: &Agent, wanted: u32) -> Result<()> {
    wait::until(&format!("{wanted} pods on {}", agent.host().name()), wait::PATIENCE, async || {
        let status = agent.weft().status().await?;
        ensure!(status.pods == wanted, "{} are left", status.pods);
        ensure!(status.pod_addresses.iter().all(|of| of.held == u64::from(wanted)), "{:?}", status.pod_addresses);
        Ok(())
    })
    .await
}

/// Two nodes in two subnets, each with a containerd.
async fn start() -> Result<(Cluster, [Containerd; 2])> {
    mount("weft-lab", "/var/lib", "tmpfs", MountFlags::empty(), None).context("a private /var/lib")?;
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    for node in ["a1", "b1"] {
        let agent = cluster.agent(node);
        agent.stop().await?;
        agent.set_options(&["--pod-grace", "1"]);
        agent.start().await?;
    }
    cluster.ready().await?;
    let runtimes = [Containerd::install(cluster.agent("a1")).await?, Containerd::install(cluster.agent("b1")).await?];
    Ok((cluster, runtimes))
}

fn path(net: &Arc<Namespace>) -> std::path::PathBuf {
    net.path()
}

lab_test!(
    #[ignore = "needs root, containerd and the reference plugins: ./dev containerd"]
    pods_of_containerd_reach_each_other_and_have_host_ports_and_limits,
    async || {
        let (cluster, [here, there]) = start().await?;
        let (here, there) = (here.cri().await?, there.cri().await?);
        let mut web = sandbox("web");
        let host_port = PortMapping { protocol: 0, container_port: PORT.into(), host_port: HOST_PORT.into() };
        web.port_mappings.push(host_port);
        let mut slow = sandbox("slow");
        slow.annotations.insert("kubernetes.io/ingress-bandwidth".to_owned(), format!("{LIMIT}"));
        let ids = [here.run(web).await?, here.run(slow).await?];
        let client_id = there.run(sandbox("client")).await?;
        let (web, slow, client) =
            (here.sandbox(&ids[0]).await?, here.sandbox(&ids[1]).await?, there.sandbox(&client_id).await?);

        for family in Family::ALL {
            let of = |sandbox: &Sandbox| sandbox.addresses.iter().copied().find(|ip| Family::of(*ip) == family);
            let (web_at, client_at) = (of(&web).context("an address")?, of(&client).context("an address")?);
            let listen = |address: IpAddr| SocketAddr::new(address, PORT);
            echo(&web, listen(web_at), &client.netns, listen(web_at))?;
            echo(&client, listen(client_at), &web.netns, listen(client_at))?;
            // The node's own address, from another node.
            let host = SocketAddr::new(cluster.lab().host("a1").address(family), HOST_PORT);
            echo(&web, listen(web_at), &path(&cluster.lab().host("b1").net()), host)?;
        }

        let limited = time_behind_the_burst(&slow, &client)?;
        let free = time_behind_the_burst(&web, &client)?;
        println!("{MEASURED} bytes take {limited:?} with a limit of {LIMIT} bit/s, and {free:?} without one");
        let least = Duration::from_secs(1) * u32::try_from((MEASURED - 2 * BUFFER) * 8)? / LIMIT;
        ensure!(limited >= least, "{MEASURED} bytes took {limited:?} in spite of a limit of {LIMIT} bit/s");
        ensure!(free * 3 < limited, "the limit is not what slows: without one it takes {free:?}");

        for id in &ids {
            here.remove(id).await?;
        }
        there.remove(&client_id).await?;
        pods(&cluster.agent("a1"), 0).await?;
        pods(&cluster.agent("b1"), 0).await
    }
);

lab_test!(
    #[ignore = "needs root, containerd and the reference plugins: ./dev containerd"]
    nothing_is_left_of_pods_whose_containerd_was_killed,
    async || {
        let (cluster, [runtime, _]) = start().await?;
        let agent = cluster.agent("a1");
        let mut living = 0;
        for round in 0..8_u64 {
            let cri = runtime.cri().await?;
            // Killed later and later while it makes a sandbox; the last one lives.
            let run = cri.run(sandbox(&format!("round-{round}")));
            let made = tokio::time::timeout(Duration::from_millis(40 * round), run).await;
            if made.is_ok_and(|made| made.is_ok()) {
                living += 1;
            }
            runtime.kill().await?;
            if round % 3 == 2 {
                agent.kill().await?;
                agent.start().await?;
                agent.ready().await?;
            }
            runtime.start().await?;
        }
        ensure!(living > 0, "no sandbox was made in time: the kills came too early to show anything");
        let cri = runtime.cri().await?;
        let known = cri.list().await?;
        for id in &known {
            cri.remove(id).await.with_context(|| format!("sandbox {id}"))?;
        }
        println!("{living} sandboxes were made, {} were known in the end", known.len());
        pods(&agent, 0).await
    }
);
