//! Whether Kubernetes is asked where nobody says so.
//!
//! Owns the order: what was named, what is in the environment, what is nearest. Must never try an answerer to find out:
//! one that does not answer would then be passed over in silence.

use std::{
    env,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use crate::args::Target;

const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const KUBECONFIG: &str = "KUBECONFIG";

/// What there is to go by.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    /// `--kubernetes` or what implies it.
    said: bool,
    /// A controller or an agent's socket, by option or environment, or an operator's identity.
    other: bool,
    /// In a pod with a service account's token.
    in_pod: bool,
    /// KUBECONFIG is set.
    in_environment: bool,
    /// An agent's socket is at its usual place: this is a node.
    agent: bool,
    /// There is a kubeconfig at the usual place.
    at_home: bool,
}

impl Signs {
    const fn mean_kubernetes(self) -> bool {
        self.said || !self.other && !self.agent && (self.in_pod || self.in_environment || self.at_home)
    }
}

/// True where the Kubernetes API is to be asked.
pub(crate) fn is_asked(target: &Target, agent_socket: &Path) -> bool {
    Signs {
        said: target.kubernetes.kubernetes,
        other: target.controller.is_some() || target.socket.is_some() || target.identity.is_some(),
        in_pod: in_pod(),
        in_environment: env::var_os(KUBECONFIG).is_some_and(|paths| !paths.is_empty()),
        agent: agent_socket.metadata().is_ok_and(|found| found.file_type().is_socket()),
        at_home: home_config().is_some_and(|path| path.is_file()),
    }
    .mean_kubernetes()
}

/// In a pod that may ask the API.
pub(super) fn in_pod() -> bool {
    env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(POD_TOKEN).is_file()
}

/// What the kubeconfig is called in messages.
pub(super) fn kubeconfig_name() -> String {
    let paths = env::var_os(KUBECONFIG).filter(|paths| !paths.is_empty()).map(PathBuf::from);
    paths.or_else(home_config).map_or_else(|| "~/.kube/config".to_owned(), |path| path.display().to_string())
}

fn home_config() -> Option<PathBuf> {
    env::home_dir().map(|home| home.join(".kube/config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_answers_where_nothing_is_said() {
        let none = Signs::default();
        assert!(!none.mean_kubernetes(), "the agent's socket is what the message then names");
        for sign in
            [Signs { in_pod: true, ..none }, Signs { in_environment: true, ..none }, Signs { at_home: true, ..none }]
        {
            assert!(sign.mean_kubernetes(), "{sign:?}");
            assert!(!Signs { agent: true, ..sign }.mean_kubernetes(), "on a node its agent answers: {sign:?}");
        }
        let everything = Signs { other: true, in_pod: true, in_environment: true, at_home: true, ..none };
        assert!(!everything.mean_kubernetes(), "what was named wins");
        assert!(Signs { said: true, ..everything }.mean_kubernetes());
    }
}
