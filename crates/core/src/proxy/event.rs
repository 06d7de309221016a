//! The part of the API Gateway REST proxy event that Custody reads.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::json::Text;

/// A request as API Gateway hands it to ingest. It borrows from the event: the body is copied only where
/// its JSON escapes must be undone.
///
/// `multiValueHeaders` repeats `headers` and is not read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyEvent<'a> {
    #[serde(borrow, default)]
    headers: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
    /// The body as text, or as base64 where `is_base64_encoded`.
    #[serde(borrow, default)]
    pub body: Option<Text<'a>>,
    /// Whether API Gateway treated the content type as binary and encoded the body.
    #[serde(default)]
    pub is_base64_encoded: bool,
    /// API Gateway's context of the request: the caller, its address and its API key.
    #[serde(default)]
    pub request_context: RequestContext,
}

/// API Gateway's context of a request. The *value* of the API key is deliberately not among the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestContext {
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// When API Gateway received the request, in milliseconds since the Unix epoch.
    pub request_time_epoch: Option<i64>,
    /// The deployment stage.
    pub stage: Option<String>,
    /// The path, including the stage.
    pub path: Option<String>,
    /// The caller.
    pub identity: Identity,
    /// What an authorizer reported about the caller, if the API has an authorizer.
    pub authorizer: Option<Authorizer>,
}

/// The caller of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// The id of the API key.
    pub api_key_id: Option<String>,
    /// The caller's address.
    pub source_ip: Option<String>,
    /// The caller's user agent.
    pub user_agent: Option<String>,
    /// The IAM principal, where the API uses IAM authorization.
    pub user_arn: Option<String>,
}

/// An authorizer's result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorizer {
    /// The principal that the authorizer recognized.
    pub principal_id: Option<String>,
}

impl ProxyEvent<'_> {
    /// Returns the value of a header. Header names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all headers that have a value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.0.as_ref(), value.as_ref()?.0.as_ref())))
    }
}
