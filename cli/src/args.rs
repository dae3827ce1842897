//! The command line.

use std::path::{Path, PathBuf};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind, parser::ValueSource,
};
use weft_program::Generate;

use crate::check::CheckCommand;

/// The name under which kubectl finds this program.
const PLUGIN: &str = "kubectl-weft";

/// Look at and operate a Weft overlay network.
///
/// Asks a controller (--controller with --identity), the Kubernetes API (--kubernetes), or the agent of the node it runs
/// on (--socket). Where none is named: the agent where its socket is, else the API inside a pod with a service account and
/// where there is a kubeconfig. As `kubectl weft` it asks the API.
#[derive(Debug, Parser)]
#[command(name = "weft", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The controller as HOST:PORT.
    #[arg(long, env = "WEFT_CONTROLLER", global = true)]
    pub(crate) controller: Option<String>,
    /// Directory with ca.crt, operator.crt and operator.key, as `weft-controller init` wrote it.
    #[arg(long, env = "WEFT_IDENTITY", global = true)]
    pub(crate) identity: Option<PathBuf>,
    /// The agent's Unix socket on this node [default: /run/weft/agent.sock where no controller is given].
    #[arg(long, env = "WEFT_SOCKET", global = true)]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesTarget,
}

/// Which cluster to ask about.
#[derive(Debug, Default, Args)]
pub(crate) struct KubernetesTarget {
    /// Ask the Kubernetes API, with the rights of the kubeconfig or of the pod it runs in.
    #[arg(long, global = true)]
    pub(crate) kubernetes: bool,
    /// The kubeconfig [default: the files of KUBECONFIG, then ~/.kube/config; in a pod its service account].
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one].
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The namespace that Weft was installed into.
    #[arg(long, short, env = "WEFT_NAMESPACE", default_value = "weft-system", global = true)]
    pub(crate) namespace: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the peers: who they are, how each is reached, whether it works, and if not, why.
    Peers(PeersArgs),
    /// How the controller, or this node's agent, stands.
    Status(StatusArgs),
    /// Join tokens.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Nodes.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// On Kubernetes: have every node cleaned up, which takes the pod network away, and wait for that.
    ///
    /// For where `helm uninstall` cannot ask for it: other tools than Helm, or records of Helm that the controller cannot read.
    /// Remove Weft without hooks afterwards.
    Uninstall(UninstallArgs),
    /// Let pods of all nodes talk to each other, as the chart's test does.
    #[command(hide = true)]
    Check {
        #[command(subcommand)]
        command: CheckCommand,
    },
    /// For whoever installs this program.
    #[command(flatten)]
    Generate(Generate),
}

#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Go on after every change, until Ctrl-C.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which one node may join once; it is printed and stored nowhere in clear.
    Create(TokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of the node.
    pub(crate) node: String,
    /// How long the token can be used: a number with s, m, h or d, from 1m to 7d.
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    pub(crate) lifetime: u64,
    /// Form of the output; a table is the bare token.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Take the request back: nodes that are clean are programmed again.
    #[arg(long)]
    pub(crate) call_off: bool,
    /// How long to wait until every node is clean: a number with s, m, h or d, from 1m to 7d. The request stays.
    #[arg(long, default_value = "10m", value_parser = lifetime)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// End a node's membership: its pod CIDRs are freed and its certificates refused.
    Delete(NodeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Name of the node.
    pub(crate) node: String,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// More columns.
    Wide,
    /// One JSON document; one a line with --watch.
    Json,
    /// YAML; documents separated by `---` with --watch.
    Yaml,
}

impl Cli {
    /// Reads the command line. What is said there wins over the environment: `--socket` asks the agent also where
    /// WEFT_CONTROLLER is exported, but two answerers on the command line contradict each other.
    pub(crate) fn read() -> Self {
        Self::from_words(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn from_words<W: Into<std::ffi::OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
        let is_plugin = words.first().is_some_and(|program| Path::new(program).file_stem() == Some(PLUGIN.as_ref()));
        let mut command = Self::command();
        if is_plugin {
            command = command.bin_name("kubectl weft");
        }
        let matches = command.try_get_matches_from_mut(words)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let typed =
            |names: &[&str]| names.iter().any(|name| matches.value_source(name) == Some(ValueSource::CommandLine));
        let said = [typed(&["controller"]), typed(&["socket"]), typed(&["kubernetes", "kubeconfig", "context"])];
        cli.target.keep(said, is_plugin).map_err(|message| command.error(ErrorKind::ArgumentConflict, message))?;
        Ok(cli)
    }
}

impl Target {
    /// Keeps the one answerer of controller, socket and Kubernetes that was said on the command line; where none was, a
    /// plugin of kubectl is for Kubernetes.
    fn keep(&mut self, said: [bool; 3], is_plugin: bool) -> Result<(), &'static str> {
        let (controller, socket, kubernetes) = match said {
            [false, false, false] if is_plugin => (false, false, true),
            [false, false, false] => return Ok(()),
            [controller, socket, kubernetes] if u8::from(controller) + u8::from(socket) + u8::from(kubernetes) == 1 => {
                (controller, socket, kubernetes)
            }
            _ => {
                return Err("--controller asks a controller, --socket an agent, and --kubernetes, --kubeconfig or \
                            --context the Kubernetes API: give one of them");
            }
        };
        self.controller = self.controller.take().filter(|_| controller);
        self.socket = self.socket.take().filter(|_| socket);
        self.kubernetes.kubernetes = kubernetes;
        Ok(())
    }
}

/// Seconds from a text such as `90m`.
fn lifetime(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no lifetime: give a number with s, m, h or d, from 1m to 7d");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let unit = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = text[..at].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| (60..=604_800).contains(seconds)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_or_a_controller_but_not_both() {
        let read = |words: &[&str]| Cli::from_words([&["weft"], words].concat());
        let both = read(&["peers", "--socket", "/s", "--controller", "c:1"]).expect_err("a contradiction");
        assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
        let socket = read(&["--socket", "/s", "peers"]).expect("one of them");
        assert_eq!((socket.target.controller, socket.target.socket), (None, Some("/s".into())));
        let controller = read(&["peers", "--controller", "c:1"]).expect("one of them");
        assert_eq!(controller.target.controller.as_deref(), Some("c:1"));
    }

    #[test]
    fn kubernetes_instead_of_both() {
        let read = |words: &[&str]| Cli::from_words(words.iter().copied()).map(|cli| cli.target);
        for flag in [&["--kubernetes"][..], &["--context", "there"], &["--kubeconfig", "/k"]] {
            let target = read(&[&["weft", "peers"], flag].concat()).expect("one of them");
            assert!(target.kubernetes.kubernetes, "{flag:?}");
            let both = read(&[&["weft", "peers", "--controller", "c:1"], flag].concat()).expect_err("a contradiction");
            assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
        }
        let plugin = read(&["/usr/bin/kubectl-weft", "peers", "-n", "net"]).expect("a plugin");
        assert!(plugin.kubernetes.kubernetes);
        assert_eq!(plugin.kubernetes.namespace, "net");
        let socket = read(&["kubectl-weft", "peers", "--socket", "/s"]).expect("what is said wins");
        assert!(!socket.kubernetes.kubernetes && socket.socket.is_some());
        assert!(!read(&["weft", "peers"]).expect("nothing said").kubernetes.kubernetes);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lifetimes_have_a_unit_and_bounds() {
        assert_eq!(lifetime("90m"), Ok(5_400));
        assert_eq!(lifetime("7d"), Ok(604_800));
        for wrong in ["", "90", "59s", "8d", "h", "1w", "99999999999999999999d", "-1h"] {
            assert!(lifetime(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
