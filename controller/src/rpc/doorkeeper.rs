//! What each request meets first.
//!
//! Owns the sign that a connection asks something, and the refusal for one that is too many: who has it hears why instead of being
//! cut off. Must never wait for anything.

use axum::{Router, extract::Request, middleware::Next, response::Response};
use tonic::{Status, service::Routes};

use crate::tls::Caller;

/// The same services behind it.
pub(super) fn before(services: Routes) -> Routes {
    let router: Router = services.into_axum_router();
    router.layer(axum::middleware::from_fn(meet)).into()
}

async fn meet(request: Request, next: Next) -> Response {
    match request.extensions().get::<Caller>().map(notice) {
        Some(Err(refusal)) => refusal.into_http(),
        _ => next.run(request).await,
    }
}

fn notice(caller: &Caller) -> Result<(), Status> {
    caller.signs.ask();
    match &caller.enough {
        Some(enough) => Err(Status::resource_exhausted(enough.to_string())),
        None => Ok(()),
    }
}
