//! Mistakes whose errors name their cause, and not only what could not be read.

use base64_simd::STANDARD;

use super::*;

#[test]
fn an_error_names_the_mistake_and_not_only_its_symptom() {
    let metadata = r#"{"messageType":"t","sourceSystemID":"s","dateTime":1769851800}"#;
    let without_seconds = metadata.replace("1769851800", "\"2026-01-31T09:30Z\"");
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
        (format!("{{\"messageMetaData\":{without_seconds},\"messagePayload\":1}}"), "has no seconds"),
    ] {
        let problem = open_json(&body).unwrap_err();
        assert!(problem.detail.contains(advice), "{body}: {}", problem.detail);
    }
}

#[test]
fn a_field_that_the_envelope_does_not_have_is_sent_where_it_belongs() {
    for (field, advice) in [
        ("contentType", "no media type: send the bytes as a CloudEvent"),
        ("mime_type", "no media type"),
        ("idempotencyKey", "as the header Idempotency-Key"),
        ("sha256", "as the header Content-Digest"),
        ("durability", "as the header Custody-Durability"),
        ("customer", "move it into messageMetaData, which may have any field"),
    ] {
        let problem = open_json(&format!("{{{META},\"messagePayload\":1,\"{field}\":\"x\"}}")).unwrap_err();
        assert!(problem.detail.contains(advice), "{field}: {}", problem.detail);
    }
    let problem = open_json(&format!("{{{META},\"content\":1}}")).unwrap_err();
    assert!(problem.detail.contains("rename it to messagePayload"), "{}", problem.detail);
    let inside = META.replacen('{', "{\"messagePayload\":1,", 1);
    let problem = open_json(&format!("{{{inside}}}")).unwrap_err();
    assert!(problem.detail.contains("is inside messageMetaData; move it out"), "{}", problem.detail);
    let twice = format!("{{{inside},\"messagePayload\":2}}");
    open_json(&twice).expect("metadata may have any field");
    let problem = open_json(r#"{"amount":1}"#).unwrap_err();
    assert!(problem.detail.ends_with("send the record itself as messagePayload, beside messageMetaData"));
}

#[test]
fn an_event_in_binary_mode_without_its_version_says_so() {
    for content_type in ["application/json", "image/png"] {
        let headers = json!({"content-type": content_type, "ce-id": "1", "ce-type": "t"});
        let problem = open(&event(&headers, ""), br#"{"score":1}"#, Sha256::of).unwrap_err();
        assert_eq!(problem.detail, "the event has no `ce-specversion`; send `ce-specversion: 1.0`");
    }
    let envelope = format!("{{{META},\"messagePayload\":1}}");
    let headers = json!({"content-type": "application/json", "ce-id": "1"});
    open(&event(&headers, ""), envelope.as_bytes(), Sha256::of).expect("an envelope needs no header");
    let wrong = envelope.replace("messagePayload", "payload");
    let problem = open(&event(&headers, ""), wrong.as_bytes(), Sha256::of).unwrap_err();
    assert!(problem.detail.contains("did you mean `messagePayload`?"), "{}", problem.detail);
    let broken = envelope.trim_end_matches('}');
    let problem = open(&event(&headers, ""), broken.as_bytes(), Sha256::of).unwrap_err();
    assert!(!problem.detail.contains("specversion"), "{}", problem.detail);
}

#[test]
fn a_request_of_another_form_is_told_which_form_it_has() {
    let problem = |headers: &serde_json::Value, body: &str| {
        open(&event(headers, ""), body.as_bytes(), Sha256::of).unwrap_err().detail
    };
    let structured = json!({"content-type": "application/cloudevents+json"});
    let envelope = format!("{{{META},\"messagePayload\":1}}");
    assert!(problem(&structured, &envelope).contains("send it with the content type application/json"));
    let both = json!({"content-type": "application/cloudevents+json", "ce-specversion": "1.0"});
    assert!(
        problem(&both, r#"{"a":1}"#)
            .contains("the headers ce-* are not read; send the content type of the data")
    );
    assert!(!problem(&both, r#"{"specversion":"1.0"}"#).contains("are not read"));
    for (version, advice) in
        [("1.0", "in quotation marks"), ("\"0.3\"", "is not \"1.0\""), ("null", "has no `specversion`")]
    {
        let detail = problem(&structured, &format!(r#"{{"specversion":{version},"data":1}}"#));
        assert!(detail.contains(advice), "{version}: {detail}");
    }
    let broken = r#"{"specversion":"1.0","data_base64":"aGVsbG8"}"#;
    assert!(
        problem(&structured, broken)
            .ends_with("or send text in data, with a datacontenttype such as text/plain")
    );
}

#[test]
fn a_form_is_refused_before_its_bytes_are_looked_at() {
    let event = event(&json!({"content-type": "multipart/form-data; boundary=x"}), "");
    let problem = open(&event, "a\u{fffd}".as_bytes(), Sha256::of).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::UnsupportedMediaType);
}

#[test]
fn hexadecimal_digits_names_and_base64_in_the_data_of_an_event_get_a_warning() {
    let warnings = |payload: &str| {
        let body = format!("{{{META},\"messagePayload\":\"{payload}\"}}");
        json_envelope::open(&body).unwrap().warnings.len()
    };
    let digest = Sha256::of(b"x").to_string();
    for text in
        ["order123", "loanApproved", &digest, &digest.to_uppercase(), &digest[..32], &digest.repeat(2)]
    {
        assert_eq!(warnings(text), 1, "{text}");
    }
    for base64 in
        [STANDARD.encode_to_string([0x2b; 60]), "A".repeat(132), STANDARD.encode_to_string(digest.as_bytes())]
    {
        assert_eq!(warnings(&base64), 0, "{base64}");
    }

    let of_event = |content_type: &str, data: &str| {
        let body = format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-01-31T09:30:00Z","datacontenttype":"{content_type}","data":"{data}"}}"#
        );
        cloud_events::open_structured(&body).unwrap().warnings
    };
    let base64 = STANDARD.encode_to_string([0xff; 48]);
    let detail = &of_event("image/png", &base64)[0].detail;
    assert!(
        detail.contains("although its type is `image/png`; send canonical base64 in data_base64"),
        "{detail}"
    );
    assert_eq!(
        of_event("image/png", &format!("{}\\n{}", &base64[..40], &base64[40..])).len(),
        0,
        "it has no variety"
    );
    let varied =
        STANDARD.encode_to_string((0..96).map(|number: u8| number.wrapping_mul(37)).collect::<Vec<_>>());
    let with_a_break = format!("{}\\n{}", &varied[..76], &varied[76..]);
    for data in [&*varied, &with_a_break, "data:image/png;base64,AA=="] {
        assert_eq!(of_event("image/png", data).len(), 1, "{data}");
    }
    assert!(of_event("application/xml", "test").is_empty(), "short words are text");
    assert!(of_event("text/plain", &base64).is_empty() && of_event("application/json", &base64).is_empty());
}

#[test]
fn a_warning_about_an_event_names_its_attribute() {
    let headers = json!({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-time": "2026-01-31T09:30:00+0100"});
    let event = json!({"headers": headers, "requestContext": {}, "body": "x"});
    let warnings = read(Bytes::from(event.to_string())).unwrap().request.unwrap().warnings;
    assert_eq!((warnings.len(), &*warnings[0].at), (1, "time"));
    assert!(warnings[0].detail.contains("so the time is stored as sent"), "{}", warnings[0].detail);
}

#[test]
fn a_header_that_is_nearly_one_that_is_read_gets_a_warning() {
    let warnings = |headers: &serde_json::Value| misspelled_headers(&event(headers, ""));
    for name in ["X-Idempotency-Key", "Idempotency_Key", "IdempotencyKey"] {
        let warnings = warnings(&json!({ name: "a", "content-type": "application/json" }));
        assert_eq!((warnings.len(), &*warnings[0].at), (1, name));
        assert!(warnings[0].detail.contains("send Idempotency-Key"), "{}", warnings[0].detail);
    }
    assert!(warnings(&json!({"idempotency-key": "a", "X-Idempotency-Key": "a", "digest": "x"})).is_empty());
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
