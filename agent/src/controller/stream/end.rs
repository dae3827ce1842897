//! Why streams end.
//!
//! Owns telling apart what only another controller, another identity or time can mend.

use tonic::{Code, Status};
use weft_proto::ended::is_certificate_ended;

use crate::controller::{alert::tls_alert, doors::Elsewhere};

/// Why a stream ended.
pub(super) enum Ended {
    /// The certificate is due: renewed, connect again at once.
    Renewed,
    /// The identity was refused, and there is another by now.
    JoinedAgain,
    /// The certificate had ended, by the controller's clock if not by ours: there is another by now.
    RenewedLate,
    /// The engine could not use an update: connect again at once with what it holds.
    Resync,
    /// The node lost the address that the connection has: connect again at once from another.
    Moved,
}

/// The controller does not know this identity any more.
#[derive(Debug, thiserror::Error)]
#[error("the controller refuses this node's identity: {message}; if the node was deleted, join again with a new token")]
pub(super) struct Refused {
    message: String,
    /// Because its certificate has ended, and for no other reason.
    pub(super) is_ended: bool,
}

/// Why a stream broke, sorted by what follows from it.
pub(super) fn ended(status: &Status) -> anyhow::Error {
    if let Some(elsewhere) = Elsewhere::of(status) {
        return elsewhere.into();
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            Refused { message, is_ended: is_certificate_ended(status) }.into()
        }
        code => match tls_alert(status) {
            Some(message) => Refused { message, is_ended: false }.into(),
            None => anyhow::anyhow!("the stream ended: {code}: {message}"),
        },
    }
}
