//! A host of its own for each test: namespaces that vanish with it, pods, and the plugin run as a runtime runs it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde_json::{Value, json};

/// Set inside the namespaces.
const INSIDE: &str = "WEFT_TEST_INSIDE";
/// The longest a connection may take; it never decides a test that works.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs `test` in network, mount and process namespaces of its own, in a process of its own. Works as root and
/// without; where neither may make namespaces the test fails and says so.
pub(crate) fn on_a_host(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let mut command = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe().expect("a test knows its file"));
    let output =
        command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().expect("unshare (util-linux)");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in its own namespaces (user namespaces may be forbidden here: run as root, or set \
         kernel.unprivileged_userns_clone=1 \
         and kernel.apparmor_restrict_unprivileged_userns=0):\n{text}"
    );
}

/// A pod's network namespace; it ends with this value, unless an interface in it still holds it.
pub(crate) struct Pod {
    file: File,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let make = || {
            // SAFETY: the thread shares no file table or memory mapping that CLONE_NEWNET could affect.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("the namespace's file")
        };
        Self { file: thread::spawn(make).join().expect("no panic") }
    }

    /// CNI_NETNS.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("enter the namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join()).expect("no panic inside the namespace")
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) {
        self.run(|| ip(arguments));
    }

    /// Accepts one connection at `address` in here, and has `client` connect and be answered.
    pub(crate) fn answers(&self, address: IpAddr, client: impl FnOnce(SocketAddr)) {
        let listener = self.run(|| TcpListener::bind((address, 0)).expect("the pod has the address"));
        with_echo(&listener, client);
    }
}

/// Runs `ip`, a foreign hand at the kernel.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip (iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Accepts one connection on the host.
pub(crate) fn host_answers(address: IpAddr, client: impl FnOnce(SocketAddr)) {
    with_echo(&TcpListener::bind((address, 0)).expect("the host has the address"), client);
}

fn with_echo(listener: &TcpListener, client: impl FnOnce(SocketAddr)) {
    let address = listener.local_addr().expect("bound");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = [0; 4];
            stream.read_exact(&mut text).expect("a question");
            stream.write_all(&text).expect("an answer");
        });
        client(address);
    });
}

/// Connects and is answered.
pub(crate) fn asks(address: SocketAddr) {
    let address = address.to_socket_addrs().expect("an address").next().expect("one");
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.write_all(b"weft").expect("asked");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("answered");
}

/// A run of the plugin.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) json: Value,
}

impl Run {
    /// The result of a command that must succeed.
    #[track_caller]
    pub(crate) fn success(self) -> Value {
        assert!(self.status.success(), "{}", self.json);
        self.json
    }

    /// The error of a command that must fail with this code.
    #[track_caller]
    pub(crate) fn error(self, code: u32) -> String {
        assert_eq!((self.status.code(), &self.json["code"]), (Some(1), &json!(code)), "{}", self.json);
        format!(
            "{} {}",
            self.json["msg"].as_str().unwrap_or_default(),
            self.json["details"].as_str().unwrap_or_default()
        )
    }
}

/// The plugin as a runtime calls it.
#[derive(Clone)]
pub(crate) struct Plugin {
    pub(crate) config: Value,
    env: BTreeMap<String, String>,
}

impl Plugin {
    pub(crate) fn new(socket: &Path, container: &str) -> Self {
        let config = json!({"cniVersion": "1.0.0", "name": "weft", "type": "weft-cni", "socket": socket});
        let env = [("CNI_CONTAINERID", container), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/opt/cni/bin")];
        Self { config, env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into() }
    }

    pub(crate) fn pod(self, pod: &Pod) -> Self {
        self.env("CNI_NETNS", &pod.path())
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.config[key] = value.into();
        self
    }

    /// Kills itself at this step.
    pub(crate) fn killed_at(&self, command: &str, step: &str) {
        let run = self.clone().env("WEFT_FAULT", step).run(command);
        assert!(run.status.code().is_none(), "it was not killed at {step}: {run:?}");
    }

    pub(crate) fn run(&self, command: &str) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft-cni"))
            .env_clear()
            .env("CNI_COMMAND", command)
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("weft-cni runs");
        let input = self.config.to_string();
        let written = child.stdin.take().expect("piped").write_all(input.as_bytes());
        assert!(written.is_ok() || written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe));
        let output = child.wait_with_output().expect("it ends");
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Run { status: output.status, json }
    }
}

/// Interfaces of this host that pods have.
pub(crate) fn pod_links() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("/proc");
    let names = text.lines().skip(2).filter_map(|line| line.split(':').next());
    names.map(str::trim).filter(|name| name.starts_with("wpod")).map(str::to_owned).collect()
}

/// Waits until so many are left: the kernel takes down a namespace that nobody has any more when it finds the time.
pub(crate) fn until_gone(left: usize) {
    while pod_links().len() > left {
        thread::yield_now();
    }
}

/// Unicast routes of this host that lead to interfaces whose names begin like this.
pub(crate) fn pod_routes(prefix: &str) -> usize {
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let lines = read("route") + &read("ipv6_route");
    // The kernel gives every IPv6 link a route for multicast, ff00::/8.
    lines.lines().filter(|line| line.contains(prefix) && !line.starts_with("ff00")).count()
}

/// The addresses of a result.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().expect("ips");
    ips.iter()
        .map(|ip| ip["address"].as_str().expect("text").split('/').next().expect("one").parse().expect("an address"))
        .collect()
}

/// A directory that goes with the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-{name}-{}-{}", std::process::id(), unique()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Process ids repeat in process namespaces; the inode of our namespace does not while it lives.
fn unique() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").expect("/proc").ino()
}
