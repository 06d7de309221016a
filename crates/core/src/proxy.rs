//! The API Gateway REST proxy event, as much of it as Custody reads, and the proxy response.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{json::Text, problem::Problem, receipt::Receipt};

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
    /// Whether API Gateway took the content type as binary and encoded the body.
    #[serde(default)]
    pub is_base64_encoded: bool,
    /// Who asked, from where, and under which key.
    #[serde(default)]
    pub request_context: RequestContext,
}

/// API Gateway's account of a request. The key's *value* is deliberately not among the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestContext {
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// When it was received, in milliseconds since the Unix epoch.
    pub request_time_epoch: Option<i64>,
    /// The deployment stage.
    pub stage: Option<String>,
    /// The path, including the stage.
    pub path: Option<String>,
    /// The caller.
    pub identity: Identity,
    /// What an authorizer said of the caller.
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
    /// The caller's program.
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
    /// The value of a header. Header names compare without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers that have a value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.0.as_ref(), value.as_ref()?.0.as_ref())))
    }
}

/// An answer that API Gateway turns into the HTTP response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// The HTTP headers.
    pub headers: BTreeMap<&'static str, String>,
    /// The body, always text.
    pub body: String,
    /// Always false.
    pub is_base64_encoded: bool,
}

/// Seconds after which a producer may try again when no store could take its record.
const RETRY_AFTER_SECONDS: u32 = 5;

impl ProxyResponse {
    /// The answer to a record that is durable.
    pub fn accepted(receipt: &Receipt) -> Self {
        let body = serde_json::to_string(receipt).expect("a receipt always serializes");
        Self::new(200, "application/json", body)
    }

    /// The answer to a request that was not taken. `request_id` is API Gateway's.
    pub fn refused(problem: &Problem, request_id: Option<&str>) -> Self {
        let mut response =
            Self::new(problem.kind.status(), "application/problem+json", problem.to_json(request_id));
        if response.status_code == 503 {
            response.headers.insert("Retry-After", RETRY_AFTER_SECONDS.to_string());
        }
        response
    }

    fn new(status_code: u16, content_type: &str, body: String) -> Self {
        let headers = BTreeMap::from([
            ("Content-Type", content_type.to_owned()),
            // The CORS headers that existing clients expect.
            ("Access-Control-Allow-Headers", "Content-Type".to_owned()),
            ("Access-Control-Allow-Methods", "OPTIONS,POST".to_owned()),
            ("Access-Control-Allow-Origin", "*".to_owned()),
        ]);
        Self { status_code, headers, body, is_base64_encoded: false }
    }
}
