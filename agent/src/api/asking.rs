//! Counts the requests in flight of each connection, for [`Visit`].

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::codegen::{Service, http::Request};

use super::visit::Visit;

/// A service whose requests are counted.
#[derive(Debug, Clone)]
pub(super) struct Counted<S>(pub(super) S);

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asking = request.extensions().get::<Arc<Visit>>().map(Visit::ask);
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(asking);
            answer
        })
    }
}
