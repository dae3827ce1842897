//! What an API server's refusal means here.
//!
//! Owns the sentences: what was asked for, where, and what to do about it. Must never show a token or a kubeconfig's
//! content.

use std::time::Duration;

/// Where the API server is, and who said so.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) server: String,
    /// Such as `kubeconfig /root/.kube/config`.
    pub(super) settings: String,
}

impl Source {
    pub(super) fn silent(&self, limit: Duration) -> anyhow::Error {
        self.unreachable(&format!("no answer within {limit:?}"))
    }

    fn unreachable(&self, cause: &str) -> anyhow::Error {
        let Self { server, settings } = self;
        anyhow::anyhow!(
            "the Kubernetes API at {server} cannot be reached: {cause}; it is named by {settings}: choose another with --kubeconfig or --context"
        )
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing<'a> {
    verb: &'static str,
    resource: &'static str,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
}

impl<'a> Doing<'a> {
    pub(super) const fn list(resource: &'static str) -> Self {
        Self { verb: "list", resource, name: None, namespace: None }
    }

    pub(super) const fn watch(resource: &'static str) -> Self {
        Self { verb: "watch", resource, name: None, namespace: None }
    }

    pub(super) const fn get(resource: &'static str, name: &'a str, namespace: &'a str) -> Self {
        Self { verb: "get", resource, name: Some(name), namespace: Some(namespace) }
    }

    pub(super) const fn patch(resource: &'static str, name: &'a str, namespace: &'a str) -> Self {
        Self { verb: "patch", resource, name: Some(name), namespace: Some(namespace) }
    }

    /// What went wrong, in a sentence.
    pub(super) fn explain(&self, error: &kube::Error, source: &Source) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => self.refused(status.code, &status.message, source),
            kube::Error::Service(_) | kube::Error::HyperError(_) => source.unreachable(&innermost(error)),
            kube::Error::Auth(_) => anyhow::anyhow!("{}: no credentials: {}", source.settings, innermost(error)),
            _ => anyhow::anyhow!("{} from {}: {}", self.words(), source.server, innermost(error)),
        }
    }

    /// The same of an HTTP status.
    pub(super) fn refused(&self, code: u16, message: &str, source: &Source) -> anyhow::Error {
        let (what, Source { server, settings }) = (self.words(), source);
        match (code, self.name) {
            (401, _) => anyhow::anyhow!(
                "the Kubernetes API at {server} does not accept the credentials of {settings}: renew them, or choose others with --context"
            ),
            (403, _) => anyhow::anyhow!(
                "{what} is forbidden ({message}): ask the cluster's administrator for the verb {} on {}{}",
                self.verb,
                self.resource,
                self.place()
            ),
            (404, None) => anyhow::anyhow!(
                "the cluster at {server} has no resource {}: Weft is not installed there; install its chart, or choose another cluster with --context",
                self.resource
            ),
            (404, Some(_)) => anyhow::anyhow!(
                "{what}: there is none at {server}: name the namespace that Weft was installed into with --namespace"
            ),
            _ => anyhow::anyhow!("{what} from {server}: {message}"),
        }
    }

    fn words(&self) -> String {
        let Self { verb, resource, name, .. } = self;
        match name {
            Some(name) => format!("{verb} {resource} {name}{}", self.place()),
            None => format!("{verb} {resource}"),
        }
    }

    fn place(&self) -> String {
        self.namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default()
    }
}

/// The deepest cause says what happened; the layers above only repeat that something did.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
