//! The answer to API Gateway's question whether a caller may use the API.

use custody_core::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    issuer_keys::{IssuerKeys, KeySource},
    token::{self, TokenError, TokenRules},
};

/// The part that Custody reads of the event of a Lambda authorizer of type `REQUEST`. Source: Amazon API Gateway developer guide, "Input
/// to an API Gateway Lambda authorizer".
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRequest {
    /// The method that the caller wants: `arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>`.
    pub method_arn: String,
    /// The headers of the request.
    #[serde(default)]
    pub headers: serde_json::Map<String, Value>,
    /// API Gateway's context of the request.
    #[serde(default)]
    pub request_context: Context,
}

/// API Gateway's context of a request that is to be authorized.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    request_id: Option<String>,
    identity: Identity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    source_ip: Option<String>,
}

impl AuthorizationRequest {
    /// Returns the value of the header `Authorization`, whose name is compared without regard to case.
    fn authorization(&self) -> Option<&str> {
        let header = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        header.and_then(|(_, value)| value.as_str())
    }

    /// Returns the ARN of all methods of the stage. API Gateway applies a remembered answer to other methods as well.
    fn all_methods(&self) -> String {
        let stage: Vec<_> = self.method_arn.splitn(3, '/').take(2).collect();
        format!("{}/*", stage.join("/"))
    }
}

/// The answer: the principal, and the right to use every method of the API. What the principal may write and read is in its access
/// entry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The value of the claim that names the principal.
    pub principal_id: String,
    /// An IAM policy.
    pub policy_document: Value,
}

/// Decides which callers may use the API.
#[derive(Debug)]
pub struct Authorizer<S, C> {
    rules: TokenRules,
    keys: IssuerKeys<S>,
    clock: C,
}

impl<S: KeySource, C: Clock> Authorizer<S, C> {
    /// Creates the authorizer for tokens that satisfy `rules`.
    pub fn new(rules: TokenRules, keys: S, clock: C) -> Self {
        Self { rules, keys: IssuerKeys::new(keys), clock }
    }

    /// Returns the authorization of a caller with a valid token. The reason of a denial is in the log: API Gateway has no place for it in
    /// its answer.
    pub async fn run(&self, request: &AuthorizationRequest) -> Result<Authorization, TokenError> {
        match token::principal(request.authorization(), &self.rules, &self.keys, self.clock.now()).await {
            Ok(principal_id) => {
                let statement = json!({
                    "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": request.all_methods(),
                });
                let policy_document = json!({"Version": "2012-10-17", "Statement": [statement]});
                Ok(Authorization { principal_id, policy_document })
            }
            Err(error) => {
                let Context { request_id, identity } = &request.request_context;
                warn!(
                    access.outcome = "denied",
                    access.action = "use a token",
                    access.source_ip = identity.source_ip,
                    access.request_id = request_id,
                    %error,
                    "denied access"
                );
                Err(error)
            }
        }
    }
}
