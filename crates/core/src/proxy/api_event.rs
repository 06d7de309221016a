//! The proxy event of a request that carries no payload.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::RequestContext;
use crate::{
    problem::{Problem, ProblemKind},
    record_id::InvalidRecordId,
    record_id::RecordId,
};

/// A request for which several paths and parameters are possible, as API Gateway hands it to a function.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiEvent {
    /// The path's template: `/messages/{messageID}`.
    pub resource: String,
    path_parameters: Option<BTreeMap<String, String>>,
    /// The parameters of the query.
    pub query_string_parameters: Option<BTreeMap<String, String>>,
    headers: Option<BTreeMap<String, Option<String>>>,
    /// The body as text, or as base64 where `is_base64_encoded`.
    pub body: Option<String>,
    /// Whether API Gateway treated the content type as binary and encoded the body.
    pub is_base64_encoded: bool,
    /// API Gateway's context of the request.
    pub request_context: RequestContext,
}

impl ApiEvent {
    /// Reads a proxy event, given as the JSON text that Lambda delivered.
    pub fn read(event: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(event).map_err(|error| {
            let detail = format!("the request cannot be read ({})", crate::json::error_text(&error));
            Problem::new(ProblemKind::MalformedRequest, detail)
        })
    }

    /// Returns the value of a header. Header names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.iter().flatten();
        headers
            .filter_map(|(key, value)| Some((key, value.as_deref()?)))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Returns the id in a parameter of the path. Records and uploads have ids of one kind.
    pub fn id(&self, parameter: &str, advice: &str) -> Result<RecordId, Problem> {
        let text = self.path_parameters.as_ref().and_then(|parameters| parameters.get(parameter));
        let text = text.map(String::as_str).unwrap_or_default();
        text.parse().map_err(|error| {
            let what = match error {
                InvalidRecordId::Length(_) => error.to_string(),
                InvalidRecordId::Format(_) => {
                    let text = crate::json::excerpt(text);
                    format!("`{text}` is not a {parameter}, which is a lower-case UUID of version 7")
                }
            };
            Problem::new(ProblemKind::InvalidQuery, format!("{what}; {advice}"))
        })
    }

    /// Returns the problem of a path that the function does not serve.
    pub fn unknown_path(&self) -> Problem {
        let path = crate::json::excerpt(&self.resource);
        Problem::new(ProblemKind::MalformedRequest, format!("`{path}` is not a path of this API"))
    }
}
