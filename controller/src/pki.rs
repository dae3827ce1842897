//! Weft's own certificate authority.
//!
//! Owns the CA's key, who a certificate speaks for, and the form of join tokens. Must never sign anything but the
//! public key of a request: names, lifetimes and usages are decided here.

mod authority;
mod identity;
mod token;

pub use authority::{Authority, Issued, PkiError, PublicKey, generate_key};
pub(crate) use identity::is_operator_name;
pub use identity::{Identity, IdentityError, Principal};
pub use token::{JoinToken, TokenError, secret_hash};

/// The TLS name of every controller, whatever address it is reached by.
pub const SERVER_NAME: &str = "weft-controller";
