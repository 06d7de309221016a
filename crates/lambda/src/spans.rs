//! Spans of OpenTelemetry: one for each invocation whose trace X-Ray samples, and one in it until the response.
//!
//! A span is a log line in OTLP's JSON encoding, as the collector's `otlpjsonfile` receiver and CloudWatch Logs Insights read it. It is written after
//! the response was posted, so the caller does not wait for it. Source: OpenTelemetry, "OpenTelemetry Protocol File Exporter", and the semantic
//! conventions of functions as a service.

use std::{io::Write as _, sync::OnceLock};

use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    digest::Sha256,
};
use serde_json::{Value, json};

/// A trace of X-Ray, as Lambda passes it to an invocation: `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The id as X-Ray writes it; empty if there is none.
    pub(crate) root: String,
    parent: String,
    is_sampled: bool,
}

impl Trace {
    /// Reads the header. What is missing stays empty.
    pub(crate) fn of(header: Option<&str>) -> Self {
        let mut trace = Self::default();
        for (name, value) in header.unwrap_or_default().split(';').filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "Root" => value.clone_into(&mut trace.root),
                "Parent" => value.clone_into(&mut trace.parent),
                "Sampled" => trace.is_sampled = value == "1",
                _ => {}
            }
        }
        trace
    }

    /// The id of W3C and OpenTelemetry: 32 hexadecimal digits, which X-Ray separates.
    fn id(&self) -> Option<String> {
        let id: String = self.root.strip_prefix("1-")?.split('-').collect();
        (id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
    }
}

/// The function whose spans this process writes.
static SOURCE: OnceLock<Source> = OnceLock::new();

#[derive(Debug)]
struct Source {
    stack: String,
    function: &'static str,
    release: String,
}

/// Sets whose spans this process writes. A second call has no effect.
pub(crate) fn set_source(stack: String, function: &'static str, release: String) {
    SOURCE.set(Source { stack, function, release }).ok();
}

/// An invocation that is being traced.
#[derive(Debug)]
pub(crate) struct Invocation {
    trace: String,
    parent: String,
    request: String,
    began: Timestamp,
    responded: Option<Timestamp>,
    error: Option<String>,
}

impl Invocation {
    /// Begins the span of an invocation, if its trace is sampled.
    pub(crate) fn begin(trace: &Trace, request: &str) -> Option<Self> {
        let id = trace.id().filter(|_| trace.is_sampled)?;
        Some(Self {
            trace: id,
            parent: trace.parent.clone(),
            request: request.to_owned(),
            began: SystemClock.now(),
            responded: None,
            error: None,
        })
    }

    /// Notes that the stage has failed with this error.
    pub(crate) fn fail(&mut self, error_name: &str) {
        self.error = Some(error_name.to_owned());
    }

    /// Notes that the response was posted.
    pub(crate) fn respond(&mut self) {
        self.responded = Some(SystemClock.now());
    }

    /// Ends the span and writes it. A process without a source, as in tests, writes none.
    pub(crate) fn end(self) {
        if let Some(source) = SOURCE.get() {
            let line = self.into_json(source, SystemClock.now());
            // A failure is ignored: if standard output is closed, it cannot be reported either.
            writeln!(std::io::stdout(), "{line}").ok();
        }
    }

    fn into_json(self, source: &Source, ended: Timestamp) -> Value {
        let nanoseconds = |at: Timestamp| format!("{}000000", at.unix_ms());
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        // Lambda repeats a failed asynchronous invocation under the same request id.
        let id_of = |part: &str| {
            let named = format!("{}/{}/{part}", self.request, self.began.unix_ms());
            Sha256::of(named.as_bytes()).to_string().chars().take(16).collect::<String>()
        };
        let responded = self.responded.unwrap_or(ended);
        let mut attributes = vec![text("faas.invocation_id", &self.request)];
        attributes.extend(self.error.as_deref().map(|name| text("error.type", name)));
        let span = |id: &str, parent: &str, name: &str, kind: u8, from: Timestamp, to: Timestamp| {
            json!({
                "traceId": self.trace, "spanId": id, "parentSpanId": parent, "name": name, "kind": kind,
                "startTimeUnixNano": nanoseconds(from), "endTimeUnixNano": nanoseconds(to),
            })
        };
        // The kinds 2 and 1: `SERVER` and `INTERNAL`. The codes 2 and 0: `ERROR` and `UNSET`.
        let mut whole = span(&id_of("whole"), &self.parent, source.function, 2, self.began, ended);
        whole["attributes"] = attributes.into();
        whole["status"] = json!({"code": if self.error.is_some() { 2 } else { 0 }});
        let response =
            span(&id_of("response"), &id_of("whole"), "until the response", 1, self.began, responded);
        json!({"resourceSpans": [{
            "resource": {"attributes": [
                text("service.name", source.function),
                text("service.namespace", &source.stack),
                text("service.version", &source.release),
                text("cloud.provider", "aws"),
                text("cloud.platform", "aws_lambda"),
            ]},
            "scopeSpans": [{"scope": {"name": "custody"}, "spans": [whole, response]}],
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    #[test]
    fn a_trace_has_the_id_of_x_ray_and_that_of_open_telemetry() {
        let trace = Trace::of(Some(HEADER));
        assert_eq!(trace.root, "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(trace.id().as_deref(), Some("5759e988bd862e3fe1be46a994272793"));
        for header in [None, Some(""), Some("Root=1-5759e988;Sampled=1"), Some("nonsense")] {
            assert_eq!(Trace::of(header).id(), None, "{header:?}");
        }
    }

    #[test]
    fn only_sampled_traces_have_spans() {
        assert!(Invocation::begin(&Trace::of(Some(HEADER)), "r").is_some());
        for header in [None, Some("Root=1-5759e988-bd862e3fe1be46a994272793"), Some("Sampled=1")] {
            assert!(Invocation::begin(&Trace::of(header), "r").is_none(), "{header:?}");
        }
        let not_sampled = HEADER.replace("Sampled=1", "Sampled=0");
        assert!(Invocation::begin(&Trace::of(Some(&not_sampled)), "r").is_none());
    }

    #[test]
    fn a_span_says_how_long_the_response_and_the_work_after_it_took_and_why_it_failed() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let mut invocation = Invocation::begin(&Trace::of(Some(HEADER)), "request-1").unwrap();
        (invocation.began, invocation.responded) = (at(1_000), Some(at(1_040)));
        invocation.fail("TableUnavailable");
        let source = Source { stack: "custody".to_owned(), function: "metadata", release: "7".to_owned() };
        let line = invocation.into_json(&source, at(1_100));
        let spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let [whole, response] = &**spans else { panic!("{line}") };
        assert_eq!(whole["traceId"], "5759e988bd862e3fe1be46a994272793");
        assert_eq!(whole["parentSpanId"], "53995c3f42cd8ad8");
        assert_eq!(
            (&whole["startTimeUnixNano"], &whole["endTimeUnixNano"]),
            (&json!("1000000000"), &json!("1100000000"))
        );
        assert_eq!(whole["status"]["code"], 2);
        assert_eq!(whole["attributes"][1]["value"]["stringValue"], "TableUnavailable");
        assert_eq!(response["parentSpanId"], whole["spanId"]);
        assert_eq!(response["endTimeUnixNano"], "1040000000");
        for span in spans {
            let id = span["spanId"].as_str().unwrap();
            assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        }
    }
}
