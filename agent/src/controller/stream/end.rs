//! Why streams end.
//!
//! Owns telling apart what only another controller, another identity or time can mend.

use tonic::{Code, Status};

use crate::controller::doors::Elsewhere;

/// Why a stream ended.
pub(super) enum Ended {
    /// The certificate is due: renewed, connect again at once.
    Renewed,
    /// The identity was refused, and there is another by now.
    JoinedAgain,
    /// The engine could not use an update: connect again at once with what it holds.
    Resync,
    /// The node lost the address that the connection has: connect again at once from another.
    Moved,
}

/// The controller does not know this identity any more.
#[derive(Debug, thiserror::Error)]
#[error("the controller refuses this node's identity: {0}; if the node was deleted, join again with a new token")]
pub(super) struct Refused(String);

/// Why a stream broke, sorted by what follows from it.
pub(super) fn ended(status: &Status) -> anyhow::Error {
    if let Some(elsewhere) = Elsewhere::of(status) {
        return elsewhere.into();
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Refused(message).into(),
        code => match tls_alert(status) {
            Some(alert) => Refused(alert).into(),
            None => anyhow::anyhow!("the stream ended: {code}: {message}"),
        },
    }
}

/// What the controller's TLS said of our certificate: with TLS 1.3 that comes after the handshake, as a broken connection.
fn tls_alert(error: &dyn std::error::Error) -> Option<String> {
    let text = error.to_string();
    match text.find("received fatal alert") {
        Some(at) => Some(text[at..].to_owned()),
        None => error.source().and_then(tls_alert),
    }
}
