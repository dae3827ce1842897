//! What the controller's TLS said of our certificate.
//!
//! Owns finding it: with TLS 1.3 it comes after the handshake, as a broken connection. Must never guess: without an alert
//! nothing is known.

/// The alert in an error or in one of its causes.
pub(super) fn tls_alert(error: &dyn std::error::Error) -> Option<String> {
    let text = error.to_string();
    match text.find("received fatal alert") {
        Some(at) => Some(text[at..].to_owned()),
        None => error.source().and_then(tls_alert),
    }
}
