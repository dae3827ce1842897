//! A container runtime with bad luck: ADD, DEL, CHECK and GC at random, plugins, agent and pods killed at random. In the
//! end every address, interface, route and file has an owner, and none has two.
//!
//! WEFT_TEST_POD_ROUNDS sets the number of rounds (1000 for the whole proof), WEFT_TEST_SEED repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::IpAddr,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

use crate::settled::{addresses, settled};

/// Rounds in an ordinary test run; the whole proof takes minutes.
const ROUNDS: u64 = 120;
/// Pods that the runtime wants at most.
const PODS: usize = 8;
/// Calls that are under way at once.
const AT_ONCE: usize = 3;
/// Usable addresses of the node's IPv4 share, a /27.
const USABLE: usize = 30;
/// Where a plugin can be had killed; those of ADD first.
const STEPS: [&str; 8] = [
    "after-allocate",
    "after-create",
    "after-host",
    "inside-pod",
    "after-pod",
    "after-attach",
    "before-unlink",
    "after-unlink",
];

/// Numbers that a seed repeats (xorshift64*, Marsaglia and Vigna).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % limit
    }

    fn once_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// How a call ends early.
#[derive(Debug, Clone, Copy)]
enum Death {
    At(&'static str),
    After(Duration),
}

/// What the runtime has of a pod.
struct Sandbox {
    net: Namespace,
    /// The result of its ADD, where the runtime heard of it.
    result: Option<Value>,
}

struct Runtime {
    agent: Arc<Agent>,
    config: Value,
    dice: Dice,
    next: u32,
    sandboxes: BTreeMap<String, Sandbox>,
    done: BTreeMap<&'static str, u32>,
}

impl Runtime {
    async fn new(agent: Arc<Agent>, seed: u64) -> Result<Self> {
        let file = agent.cni_configuration().join("10-weft.conflist");
        let text = wait::until("the CNI configuration", wait::PATIENCE, async || Ok(fs::read(&file)?)).await?;
        let list: Value = serde_json::from_slice(&text)?;
        let mut config = list["plugins"][0].clone();
        config["name"] = list["name"].clone();
        config["cniVersion"] = json!("1.1.0");
        let dice = Dice(seed.max(1));
        Ok(Self { agent, config, dice, next: 0, sandboxes: BTreeMap::new(), done: BTreeMap::new() })
    }

    /// One round: a few calls at once, now and then the agent's death in the middle of them.
    async fn round(&mut self) -> Result<()> {
        if self.dice.once_in(12) {
            return self.collect().await;
        }
        let mut calls = Vec::new();
        let mut busy = BTreeSet::new();
        for _ in 0..AT_ONCE {
            let (verb, id) = self.choose(&busy)?;
            busy.insert(id.clone());
            let death = self.death(verb);
            calls.push((verb, id, death));
        }
        let kill = self.dice.once_in(15).then(|| Duration::from_micros(self.dice.below(30_000) as u64));
        let answers = {
            let this = &*self;
            let run = |(verb, id, death): (&'static str, String, Option<Death>)| async move {
                let answer = this.call(verb, &id, death).await;
                (verb, id, answer)
            };
            let calls = join_all(calls.into_iter().map(run));
            let agent = async {
                let Some(pause) = kill else { return Ok(()) };
                tokio::time::sleep(pause).await;
                this.agent.kill().await?;
                this.agent.start().await
            };
            let (answers, agent) = futures::join!(calls, agent);
            agent?;
            answers
        };
        if kill.is_some() {
            *self.done.entry("agent killed").or_default() += 1;
            self.agent.ready().await?;
        }
        for (verb, id, answer) in answers {
            self.heard(verb, &id, answer?);
        }
        Ok(())
    }

    /// A verb and a sandbox that nothing else is done to.
    fn choose(&mut self, busy: &BTreeSet<String>) -> Result<(&'static str, String)> {
        let free: Vec<String> = self.sandboxes.keys().filter(|id| !busy.contains(*id)).cloned().collect();
        if free.is_empty() || (self.sandboxes.len() < PODS && self.dice.once_in(2)) {
            self.next += 1;
            let id = format!("sandbox{}", self.next);
            let net = Namespace::create(&id)?;
            self.sandboxes.insert(id.clone(), Sandbox { net, result: None });
            return Ok(("ADD", id));
        }
        let id = free[self.dice.below(free.len())].clone();
        let verb = match (&self.sandboxes[&id].result, self.dice.below(3)) {
            (None, 0) => "ADD",
            (Some(_), 0) => "CHECK",
            _ => "DEL",
        };
        Ok((verb, id))
    }

    fn death(&mut self, verb: &str) -> Option<Death> {
        match (verb, self.dice.below(6)) {
            ("ADD", 0) => Some(Death::At(STEPS[self.dice.below(6)])),
            ("DEL", 0) => Some(Death::At(STEPS[6 + self.dice.below(2)])),
            ("ADD" | "DEL", 1) => Some(Death::After(Duration::from_micros(self.dice.below(60_000) as u64))),
            _ => None,
        }
    }

    /// None where the plugin was killed.
    async fn call(&self, verb: &str, id: &str, death: Option<Death>) -> Result<Option<(bool, Value)>> {
        let sandbox = &self.sandboxes[id];
        let mut config = self.config.clone();
        if let Some(result) = &sandbox.result {
            config["prevResult"] = result.clone();
        }
        let mut command = Command::new(self.agent.cni_programs().join("weft-cni"));
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", sandbox.net.path()).env("CNI_PATH", self.agent.cni_programs());
        if let Some(Death::At(step)) = death {
            command.env("WEFT_FAULT", step);
        }
        let limit = if let Some(Death::After(limit)) = death { limit } else { wait::limit(Duration::from_secs(60)) };
        self.run(command, &config, limit).await
    }

    async fn run(&self, mut command: Command, config: &Value, limit: Duration) -> Result<Option<(bool, Value)>> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = self.agent.host().net().enter_runtime(move || command.spawn())?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A child that was killed closes it early.
        let _ = stdin.write_all(config.to_string().as_bytes()).await;
        drop(stdin);
        let Ok(output) = timeout(limit, child.wait_with_output()).await else { return Ok(None) };
        let output = output?;
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Ok(output.status.code().map(|code| (code == 0, answer)))
    }

    /// What the runtime makes of an answer: after a failed ADD and after a DEL it drops the sandbox, or tries again later.
    fn heard(&mut self, verb: &'static str, id: &str, answer: Option<(bool, Value)>) {
        let kind = match &answer {
            None => "killed",
            Some((true, _)) => verb,
            Some((false, _)) => "failed",
        };
        *self.done.entry(kind).or_default() += 1;
        let drop_it = match (verb, answer) {
            ("ADD", Some((true, result))) => {
                let sandbox = self.sandboxes.get_mut(id).expect("it was chosen");
                sandbox.result = Some(result);
                // Its runtime dies: nobody ever calls DEL.
                self.dice.once_in(10)
            }
            ("DEL", Some((true, _))) => true,
            ("ADD" | "DEL", _) => self.dice.once_in(2),
            _ => false,
        };
        if drop_it {
            self.sandboxes.remove(id);
        } else if verb == "DEL" {
            // Half torn down: what it had counts no longer, and only another DEL or the sandbox's end can follow.
            self.sandboxes.get_mut(id).expect("it was chosen").result = None;
        }
    }

    async fn collect(&mut self) -> Result<()> {
        let valid: Vec<Value> = self.living().keys().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let mut config = self.config.clone();
        config["cni.dev/valid-attachments"] = json!(valid);
        let mut command = Command::new(self.agent.cni_programs().join("weft-cni"));
        command.env("CNI_COMMAND", "GC").env("CNI_PATH", self.agent.cni_programs());
        let limit = if self.dice.once_in(3) { self.dice.below(60_000) as u64 } else { 60_000_000 };
        let answer = self.run(command, &config, Duration::from_micros(limit)).await?;
        if let Some((false, error)) = answer {
            bail!("GC failed: {error}");
        }
        *self.done.entry("GC").or_default() += 1;
        Ok(())
    }

    /// Pods that work as far as the runtime knows, with their addresses.
    fn living(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let with_result = self.sandboxes.iter().filter_map(|(id, sandbox)| Some((id, sandbox.result.as_ref()?)));
        with_result.map(|(id, result)| (id.clone(), addresses(result))).collect()
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

lab_test!(nothing_is_left_without_an_owner_and_nothing_has_two, async || {
    let pools = vec![("10.244.0.0/16".to_owned(), 27), ("fd44:5745::/48".to_owned(), 64)];
    let cluster = Cluster::start(LabSpec { pools, ..LabSpec::default().hosts(1) }).await?;
    let (agent, there) = (cluster.agent("a1"), cluster.pod("b1", "there").await?);
    agent.stop().await?;
    agent.set_options(&["--pod-grace", "1"]);
    agent.start().await?;
    agent.ready().await?;

    let (rounds, seed) = (number("WEFT_TEST_POD_ROUNDS", ROUNDS), number("WEFT_TEST_SEED", 0x5745_4654));
    println!("{rounds} rounds, WEFT_TEST_SEED={seed}; WEFT_TEST_POD_ROUNDS=1000 is the whole proof");
    let mut runtime = Runtime::new(Arc::clone(&agent), seed).await?;
    for round in 0..rounds {
        runtime.round().await.with_context(|| format!("round {round}"))?;
    }
    println!("{:?}", runtime.done);

    // The runtime gives up what it is not sure of; who lives has both addresses for itself, and they work.
    runtime.sandboxes.retain(|_, sandbox| sandbox.result.is_some());
    settled(&agent, runtime.living().len()).await?;
    let living = runtime.living();
    let all: Vec<IpAddr> = living.values().flatten().copied().collect();
    ensure!(all.iter().collect::<BTreeSet<_>>().len() == 2 * living.len(), "addresses are doubled: {living:?}");
    for (id, addresses) in &living {
        for address in addresses {
            there.reaches(*address).await.with_context(|| id.clone())?;
        }
        let check = runtime.call("CHECK", id, None).await?;
        ensure!(matches!(check, Some((true, _))), "{id}: {check:?}");
    }
    all_addresses_come_back(&cluster, runtime).await
});

/// Half of the pods end by DEL, half without; then the whole share can be handed out once more.
async fn all_addresses_come_back(cluster: &Cluster, mut runtime: Runtime) -> Result<()> {
    let agent = Arc::clone(&runtime.agent);
    for id in runtime.living().into_keys().step_by(2) {
        runtime.call("DEL", &id, None).await?.with_context(|| format!("DEL of {id}"))?;
    }
    runtime.sandboxes.clear();
    settled(&agent, 0).await?;
    let released = agent.socket().with_file_name("released");
    let noted = |name: &std::ffi::OsString| !name.to_string_lossy().starts_with('.');
    let notes = fs::read_dir(&released).into_iter().flatten().flatten().map(|entry| entry.file_name()).filter(noted);
    ensure!(notes.count() == 0, "releases are noted still in {}", released.display());
    let mut pods = Vec::new();
    for number in 0..USABLE {
        pods.push(cluster.pod("a1", &format!("last-{number}")).await.context("an address was lost")?);
    }
    let distinct: BTreeSet<_> =
        pods.iter().flat_map(|pod| pod.addresses().iter().copied().collect::<Vec<_>>()).collect();
    ensure!(distinct.len() == 2 * USABLE, "an address was doubled");
    Ok(())
}
