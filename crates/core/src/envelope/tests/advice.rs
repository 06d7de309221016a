//! Mistakes whose errors name their cause, and not only what could not be read.

use super::*;

#[test]
fn an_error_names_the_mistake_and_not_only_its_symptom() {
    let metadata = r#"{"messageType":"t","sourceSystemID":"s","dateTime":1769851800}"#;
    for (body, advice) in [
        (format!("\u{feff}{{{META},\"messagePayload\":1}}"), "byte order mark"),
        (format!("{{{META},\"messagePayload\":[NaN]}}"), "NaN is not JSON"),
        // The parser stops in the middle of the last character.
        (format!("{{{META},\"messagePayload\":\"caf\u{e9}"), "ends too early"),
        (format!("{{{META},\"messagePayload\":\"caf\u{e9}\n\"}}"), "control character"),
        (format!("{{{META},\"messagePayload\":\"caf\u{e9}\t\"}}"), "control character"),
        (
            format!("{{{META},\"messagePayload\":\"data:;base64,AA==\",\"payloadEncoding\":\"base64\"}}"),
            "send what follows its comma",
        ),
        (format!("{{{META},\"messagePayload\":-Infinity}}"), "Infinity is not JSON"),
        (
            r#"{"type":"t","specversion":"1.0","data":1}"#.to_owned(),
            "a CloudEvent has the content type application/cloudevents+json",
        ),
        (
            format!("{{\"messageMetaData\":{metadata},\"messagePayload\":1}}"),
            "send RFC 3339 in quotation marks",
        ),
    ] {
        let problem = open_json(&body).unwrap_err();
        assert!(problem.detail.contains(advice), "{body}: {}", problem.detail);
    }
}

#[test]
fn bytes_that_were_passed_on_as_text_are_explained_by_their_type() {
    let body = format!("{{{META},\"messagePayload\":\"caf\u{fffd}\"}}");
    let problem = |content_type: &str, body: &str| {
        let event = event(&json!({"content-type": content_type, "ce-specversion": "1.0"}), body);
        open(&event, body.as_bytes(), Sha256::of).unwrap_err().detail
    };
    assert!(
        problem("application/json", &body)
            .contains("; encode the text in UTF-8; or, if it is no text, send it by POST /uploads")
    );
    assert!(
        problem("text/csv; charset=utf-8", "a\u{fffd}")
            .contains("; encode the text in UTF-8; or, if it is no text, send it by POST /uploads")
    );
    assert!(
        problem("application/x-model", "a\u{fffd}")
            .contains("as application/octet-stream with the CloudEvents")
    );
}

#[test]
fn a_body_that_is_too_large_because_of_its_type_says_so() {
    let detail = |body: String| {
        let event =
            json!({"headers": {"content-type": "application/x-model"}, "requestContext": {}, "body": body});
        let problem = read(Bytes::from(event.to_string())).unwrap().request.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::TooLarge);
        problem.detail
    };
    let replaced = detail("\u{fffd}".repeat(MAX_EVENT_BYTES / 3));
    assert!(replaced.contains("content type `application/x-model` is not passed on as bytes"), "{replaced}");
    assert!(!detail("x".repeat(MAX_EVENT_BYTES)).contains("not passed on as bytes"));
}
