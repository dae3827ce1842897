//! That a certificate has ended, as a controller says it beside its refusal: an agent whose clock is behind would not know.
//!
//! Owns the metadata key. Must never be more than a hint: whether the certificate is renewed is decided when that is asked for.

use tonic::{Code, Status};

/// Metadata of the refusal.
const ENDED: &str = "weft-certificate-ended";

/// UNAUTHENTICATED because of that.
pub fn certificate_ended(message: impl Into<String>) -> Status {
    let mut status = Status::unauthenticated(message);
    status.metadata_mut().insert(ENDED, tonic::metadata::MetadataValue::from_static("true"));
    status
}

/// True for a refusal because of that.
pub fn is_certificate_ended(status: &Status) -> bool {
    status.code() == Code::Unauthenticated && status.metadata().contains_key(ENDED)
}
