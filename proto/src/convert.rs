//! From the wire to typed values and back.
//!
//! Owns the checks at the edge: whatever a `TryFrom` here lets through is valid, and what it refuses is named by field
//! and value. Conversions to the wire cannot fail.

mod addresses;
mod member;
mod membership;
mod settings;
mod standing;

pub use addresses::{cidr, networks, to_cidr};
pub use membership::{SnapshotBuilder, SnapshotError, change_to_wire, delta, told};
pub use settings::{settings_more, to_settings_more};

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {message}")]
pub struct ConvertError {
    /// The field, as a path such as `member.pod_cidrs`.
    pub field: String,
    /// What is wrong with its value, and what would be right.
    pub message: String,
}

impl ConvertError {
    /// An error about `field`.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors that nobody needs afterwards")]
    pub fn new(field: &str, message: impl ToString) -> Self {
        Self { field: field.to_owned(), message: message.to_string() }
    }

    /// The same error inside a message called `outer`.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }

    pub(crate) fn missing(field: &str) -> Self {
        Self::new(field, "is missing")
    }
}

/// A refused message is the caller's fault: INVALID_ARGUMENT with the field named.
impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
