//! One network namespace, held by a thread that lives in it.
//!
//! Owns the namespace's life and the ways into it: closures that run on its thread, sockets opened there and handed
//! out (a socket stays in the namespace it was created in), children, sysctls. Must never move any other thread.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context, Result};
use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::{sandbox::NETNS, wire::Wire};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace. Dropping it ends its thread and, where it was created here, takes it out of /run/netns; the kernel
/// frees it once no process and no socket is left in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    fd: OwnedFd,
    jobs: mpsc::Sender<Job>,
    wire: Wire,
    forgotten: AtomicBool,
}

impl Namespace {
    /// Creates a namespace and mounts it as /run/netns/`name`. Needs a running tokio runtime.
    ///
    /// # Errors
    /// Where the kernel refuses; the text names the namespace.
    pub fn create(name: &str) -> Result<Self> {
        let path = Path::new(NETNS).join(name);
        File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let entering = path.clone();
        Self::live_in(name, path, move || unshare_here(&entering))
            .with_context(|| format!("cannot create network namespace {name}"))
    }

    /// Enters a namespace that somebody else made and will end; `path` leads to it. Needs a running tokio runtime.
    ///
    /// # Errors
    /// Where there is no such namespace, or this process may not enter it.
    pub fn adopt(name: &str, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let enter = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("setns(CLONE_NEWNET)")?;
            Ok(file.into())
        };
        let namespace = Self::live_in(name, path.to_owned(), enter)
            .with_context(|| format!("cannot enter network namespace {name} at {}", path.display()))?;
        namespace.forgotten.store(true, Ordering::Relaxed);
        Ok(namespace)
    }

    /// Starts a thread that goes where `enter` leads and stays there.
    fn live_in(name: &str, path: PathBuf, enter: impl FnOnce() -> Result<OwnedFd> + Send + 'static) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, start) = mpsc::channel();
        thread::Builder::new()
            .name(format!("ns-{name}"))
            .spawn(move || {
                let entered = enter();
                let failed = entered.is_err();
                // A receiver that is gone has given up on this namespace.
                let _ = started.send(entered);
                if !failed {
                    queue.into_iter().for_each(|job| job());
                }
            })
            .context("cannot start its thread")?;
        let fd = start.recv().context("its thread ended early")??;
        let wire = run_on(&jobs, {
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _guard = runtime.enter();
                Wire::open()
            }
        })
        .context("cannot open netlink in it")?;
        Ok(Self { name: name.to_owned(), path, fd, jobs, wire, forgotten: AtomicBool::new(false) })
    }

    /// Its name; below /run/netns where it was created here.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is mounted, or else was found.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Its file descriptor, as `IFLA_NET_NS_FD` takes it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Links, addresses and routes in it.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Runs `job` on the namespace's thread and waits for it. For short work: jobs queue up behind each other.
    ///
    /// # Panics
    /// With the panic of `job`.
    pub fn enter<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        run_on(&self.jobs, job)
    }

    /// Like [`Self::enter`], inside the current tokio runtime, for what registers itself there.
    ///
    /// # Panics
    /// With the panic of `job`.
    pub fn enter_runtime<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let runtime = tokio::runtime::Handle::current();
        self.enter(move || {
            let _guard = runtime.enter();
            job()
        })
    }

    /// Writes a sysctl; `path` is below /proc/sys/net, which shows the namespace of the thread that looks.
    ///
    /// # Errors
    /// Where the file cannot be written; the text names it.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let (file, text) = (format!("/proc/sys/net/{path}"), value.to_owned());
        self.enter({
            let file = file.clone();
            move || fs::write(file, text)
        })
        .with_context(|| format!("cannot write {value} to {file} in namespace {}", self.name))
    }

    /// Loopback up, addresses usable at once, ICMP errors never rationed (a lab asks more often than the kernel answers
    /// by default), and where `strict` reverse path filtering on every link to come.
    ///
    /// # Errors
    /// Where a sysctl cannot be written.
    pub async fn set_defaults(&self, strict: bool) -> Result<()> {
        self.wire.set_up("lo", true).await?;
        for scope in ["all", "default"] {
            self.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), if strict { "1" } else { "0" })?;
            self.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
            self.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        // Not by its rate: each message of rate 0 takes away what errors of routes may be sent, which have a ration of their own.
        self.sysctl("ipv4/icmp_ratemask", "0")?;
        self.sysctl("ipv6/icmp/ratelimit", "0")
    }

    /// Takes it out of /run/netns, so that its name is free; it lives on for who holds it.
    pub(super) fn forget(&self) {
        // Nothing to do about an error: the mount goes with the sandbox at the latest.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.path);
        self.forgotten.store(true, Ordering::Relaxed);
    }

    /// A UDP socket in it.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn udp(&self, bind: SocketAddr) -> Result<UdpSocket> {
        self.enter(move || UdpSocket::bind(bind)).with_context(|| format!("{}: cannot bind UDP {bind}", self.name))
    }

    /// A UDP socket on any port, of the family of `peer`.
    ///
    /// # Errors
    /// As [`Self::udp`].
    pub fn udp_towards(&self, peer: IpAddr) -> Result<UdpSocket> {
        self.udp(SocketAddr::new(any(peer), 0))
    }

    /// A TCP listener in it.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn tcp_listener(&self, bind: SocketAddr) -> Result<TcpListener> {
        self.enter(move || TcpListener::bind(bind)).with_context(|| format!("{}: cannot bind TCP {bind}", self.name))
    }

    /// A TCP socket in it, not connected, of the family of `peer`.
    ///
    /// # Errors
    /// Where the kernel has no such socket.
    pub fn tcp_towards(&self, peer: IpAddr) -> Result<tokio::net::TcpSocket> {
        self.enter_runtime(move || match peer {
            IpAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            IpAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        })
        .with_context(|| format!("{}: cannot open a TCP socket", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Another one may have its name by now.
        if !self.forgotten.load(Ordering::Relaxed) {
            self.forget();
        }
    }
}

/// The unspecified address of the family of `address`.
pub fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[allow(unsafe_code)]
fn unshare_here(path: &Path) -> Result<OwnedFd> {
    // SAFETY: only the network namespace of this very thread changes; no file descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("unshare(CLONE_NEWNET)")?;
    let own = "/proc/thread-self/ns/net";
    mount_bind(own, path).with_context(|| format!("cannot mount {own} on {}", path.display()))?;
    Ok(File::open(own).with_context(|| format!("cannot open {own}"))?.into())
}

fn run_on<T: Send + 'static>(jobs: &mpsc::Sender<Job>, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, wait) = mpsc::sync_channel(1);
    let work: Job = Box::new(move || {
        // A receiver that is gone no longer wants the answer.
        let _ = answer.send(catch_unwind(AssertUnwindSafe(job)));
    });
    jobs.send(work).expect("the thread lives as long as its sender");
    match wait.recv().expect("each job answers, panics included") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}
