//! The answer to an API Gateway REST proxy event.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{digest::Sha256, problem::Problem, receipt::Receipt};

/// An answer that API Gateway turns into the HTTP response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// The HTTP headers.
    pub headers: BTreeMap<&'static str, String>,
    /// The body, always text. It ends with a newline, so that a terminal shows it on lines of its own.
    pub body: String,
    /// Whether the body is base64: always false.
    pub is_base64_encoded: bool,
}

/// The number of seconds after which a producer may try again, in every answer with status 503 or 202.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The headers of answers that no browser exposes by itself.
const EXPOSED_HEADERS: &str = "Idempotency-Replayed,Location,Repr-Digest,Retry-After";

impl ProxyResponse {
    /// Creates the answer to an accepted record.
    pub fn accepted(receipt: &Receipt) -> Self {
        let body = serde_json::to_string(receipt).expect("a receipt always serializes");
        Self::new(200, "application/json", body + "\n")
    }

    /// Marks the answer as the repetition of an earlier one.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.headers.insert("Idempotency-Replayed", "true".to_owned());
        self
    }

    /// Creates an answer with this value as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let body = serde_json::to_string(value).expect("an answer always serializes");
        let mut response = Self::new(200, "application/json", body + "\n");
        response.headers.insert("Cache-Control", "no-store".to_owned());
        response
    }

    /// Creates the answer to a request that has created a resource at `location`.
    pub fn created(value: &impl Serialize, location: &str) -> Self {
        let mut response = Self { status_code: 201, ..Self::json(value) };
        response.headers.insert("Location", location.to_owned());
        response
    }

    /// Creates the answer to a request that is not finished yet. The caller may ask again after a time.
    pub fn accepted_for_later(value: &impl Serialize, location: &str) -> Self {
        let mut response = Self { status_code: 202, ..Self::json(value) };
        response.headers.insert("Location", location.to_owned());
        response.headers.insert("Retry-After", RETRY_AFTER_SECONDS.to_string());
        response
    }

    /// Creates an answer that leads to a payload elsewhere. `Repr-Digest` (RFC 9530) is the digest of that payload.
    pub fn see_other(url: String, sha256: Sha256) -> Self {
        let mut response = Self::new(303, "text/plain", String::new());
        response.headers.insert("Location", url);
        response.headers.insert("Repr-Digest", format!("sha-256=:{}:", sha256.to_base64()));
        response.headers.insert("Cache-Control", "no-store".to_owned());
        response
    }

    /// Creates the answer to a request that is not accepted. `request_id` is API Gateway's.
    pub fn of_problem(problem: &Problem, request_id: Option<&str>) -> Self {
        let mut response =
            Self::new(problem.kind.status(), "application/problem+json", problem.to_json(request_id) + "\n");
        if response.status_code == 503 {
            response.headers.insert("Retry-After", RETRY_AFTER_SECONDS.to_string());
        }
        response
    }

    /// Replaces the origin whose pages may read the answer. It is every origin otherwise.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.headers.insert("Access-Control-Allow-Origin", origin.to_owned());
        self
    }

    fn new(status_code: u16, content_type: &str, body: String) -> Self {
        let headers = BTreeMap::from([
            ("Content-Type", content_type.to_owned()),
            // The CORS headers that existing clients expect.
            ("Access-Control-Allow-Headers", "Content-Type".to_owned()),
            ("Access-Control-Allow-Methods", "OPTIONS,POST".to_owned()),
            ("Access-Control-Allow-Origin", "*".to_owned()),
            // The headers that a page in a browser may read, beside those that it may always read.
            ("Access-Control-Expose-Headers", EXPOSED_HEADERS.to_owned()),
        ]);
        Self { status_code, headers, body, is_base64_encoded: false }
    }
}
