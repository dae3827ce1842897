//! Whom a ServiceAccount token speaks for, as the API server says (TokenReview).
//!
//! Owns what is asked, and what of the answer makes a node: the audience, the account, the node that the token is bound to.
//! Nothing is kept: the certificate that follows is the memory. Must never log a token, and must never take one for good
//! because the API server cannot be asked.

mod limits;
mod refusal;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, timeout};
use weft_core::types::NodeName;

pub(crate) use self::limits::Asker;
use self::limits::Limits;
pub(crate) use self::refusal::TokenRefusal;
use crate::config::Kubernetes;

/// The longest token that is passed on, in bytes; those of Kubernetes have one to two KiB.
const LONGEST: usize = 8 << 10;
/// The API server answers a review from its memory and one look for the pod.
const ANSWER: Duration = Duration::from_secs(5);
/// What a token bound to a pod says beside the account (KEP-4193; in every token since Kubernetes 1.30).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Whoever can tell what a token is worth; the error says why it cannot at present.
pub(crate) trait Review: Send + Sync {
    /// Asks about `token`, for `audience`.
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, Unanswered>>;
}

/// Why nobody says what a token is worth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// This account may not ask.
    #[error("it refuses to review tokens ({code} {reason}); see the controller's ClusterRole")]
    Refused { code: u16, reason: String },
    /// It could not be asked.
    #[error("{0}")]
    Failed(String),
    /// It did not say anything.
    #[error("no answer within {} s", ANSWER.as_secs())]
    Silent,
}

/// A token that is good for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reviewed {
    /// UID of the Node object that its pod is bound to.
    pub(crate) node_uid: Option<String>,
    /// The pod's name, for people.
    pub(crate) pod: String,
}

/// Reviews agents' tokens.
pub(crate) struct Reviewer {
    api: Arc<dyn Review>,
    audience: String,
    /// The agents' account, as the API server spells users.
    user: String,
    limits: Limits,
}

impl Reviewer {
    /// Of tokens as `own` wants them, asking the API server behind `client`.
    pub(crate) fn new(client: Client, own: &Kubernetes) -> Self {
        let account = (own.namespace.as_str(), own.agent_service_account.as_str());
        Self::asking(Arc::new(ApiServer(client)), &own.token_audience, account)
    }

    /// `account` is namespace and name.
    pub(crate) fn asking(api: Arc<dyn Review>, audience: &str, (namespace, name): (&str, &str)) -> Self {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Self { api, audience: audience.to_owned(), user, limits: Limits::default() }
    }

    /// Whether `token`, shown by `asker`, speaks for `node`.
    pub(crate) async fn review(&self, asker: &Asker, node: &NodeName, token: &str) -> Result<Reviewed, TokenRefusal> {
        if !is_token(token) {
            return Err(TokenRefusal::Malformed);
        }
        if !self.limits.may_ask(asker, Instant::now()) {
            return Err(TokenRefusal::TooMany { asker: asker.clone() });
        }
        let _turn = self.limits.turn().await.ok_or(TokenRefusal::Busy)?;
        let answer = timeout(ANSWER, self.api.review(token, &self.audience)).await;
        let status = match answer {
            Ok(Ok(status)) => status,
            Ok(Err(why)) => return Err(why.into()),
            Err(_) => return Err(Unanswered::Silent.into()),
        };
        let judged = self.judge(status, node);
        if judged.is_err() {
            self.limits.count(asker, Instant::now());
        }
        judged
    }

    fn judge(&self, status: TokenReviewStatus, node: &NodeName) -> Result<Reviewed, TokenRefusal> {
        if status.authenticated != Some(true) {
            let why = status.error.unwrap_or_else(|| "it gave no reason".to_owned());
            return Err(TokenRefusal::Invalid { why: short(&why) });
        }
        // An API server that knows no audiences leaves them out, and then the token is good for anybody.
        if !status.audiences.unwrap_or_default().contains(&self.audience) {
            return Err(TokenRefusal::OtherAudience { audience: self.audience.clone() });
        }
        let user = status.user.unwrap_or_default();
        if user.username.as_deref() != Some(&self.user) {
            let found = short(&user.username.unwrap_or_default());
            return Err(TokenRefusal::OtherAccount { found, wanted: self.user.clone() });
        }
        let Some(bound) = extra(&user, NODE_NAME) else { return Err(TokenRefusal::Unbound) };
        if bound != node.as_str() {
            return Err(TokenRefusal::OtherNode { node: node.clone(), bound: short(bound) });
        }
        Ok(Reviewed {
            node_uid: extra(&user, NODE_UID).map(str::to_owned),
            pod: extra(&user, POD_NAME).map(short).unwrap_or_default(),
        })
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reviewer({} for {})", self.user, self.audience)
    }
}

/// The one value of a fact about the user; several would be nobody's in particular.
fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [one] if !one.is_empty() => Some(one),
        _ => None,
    }
}

/// Three parts of base64url, as JSON Web Tokens have (RFC 7515, section 3.1).
fn is_token(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    text.len() <= LONGEST && text.split('.').count() == 3 && text.split('.').all(is_part)
}

fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

/// The API server.
struct ApiServer(Client);

impl Review for ApiServer {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, Unanswered>> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.0.clone());
        async move {
            match api.create(&PostParams::default(), &review).await {
                Ok(review) => Ok(review.status.unwrap_or_default()),
                // Never the whole: an answer may repeat what was asked.
                Err(kube::Error::Api(refused)) => {
                    Err(Unanswered::Refused { code: refused.code, reason: short(&refused.reason) })
                }
                Err(error) => Err(Unanswered::Failed(short(&error.to_string()))),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
