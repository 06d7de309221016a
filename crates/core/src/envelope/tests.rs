//! Tests of each envelope: a table of requests, and the payload or problem that each of them results in.

mod advice;

use serde_json::{Value, json};

use super::*;

const META: &str =
    r#""messageMetaData":{"messageType":"t","sourceSystemID":"s","dateTime":"2026-01-31T09:30:00Z"}"#;

fn event<'a>(headers: &Value, body: &str) -> ProxyEvent<'a> {
    let event = json!({"headers": headers, "body": body}).to_string();
    serde_json::from_str(Box::leak(event.into_boxed_str())).unwrap()
}

fn payload_part(content: ContentPart<'_>) -> PayloadPart<'_> {
    match content {
        ContentPart::Payload(payload) => payload,
        ContentPart::Reference(reference) => panic!("{reference:?} is no payload"),
    }
}

/// Returns the payload of a request that carries it.
pub(super) fn payload_of(request: Request) -> Payload {
    match request.content {
        Content::Payload(payload) => payload,
        Content::Reference(reference) => panic!("{reference:?} is no payload"),
    }
}

fn open_json(body: &str) -> Result<(Vec<u8>, PayloadEncoding, String), Problem> {
    let event = event(&json!({"Content-Type": "application/json; charset=utf-8"}), body);
    open(&event, body.as_bytes(), Sha256::of)
        .map(|e| payload_part(e.content))
        .map(|payload| (payload.content.into_owned(), payload.encoding, payload.content_type))
}

#[test]
fn a_payload_is_taken_as_the_bytes_it_stands_for() {
    use PayloadEncoding::{Base64, Json, Utf8};
    for (payload, bytes, encoding) in [
        (r#""aGVsbG8=""#, b"hello".as_slice(), Base64),
        (r#""aGVs\u0062G8=""#, b"hello", Base64),
        (r#""hello, world""#, b"hello, world", Utf8),
        // Not canonical: a stray bit in the last character, a missing pad, a line break.
        (r#""aGVsbG9=""#, b"aGVsbG9=", Utf8),
        (r#""aGVsbG8""#, b"aGVsbG8", Utf8),
        (r#""aGVs\nbG8=""#, b"aGVs\nbG8=", Utf8),
        (r#""a\u0000\"\ud83d\ude00""#, "a\0\"😀".as_bytes(), Utf8),
        (r#"{"a" : 1.0, "b":"\ud800", "a":[ ] }"#, br#"{"a" : 1.0, "b":"\ud800", "a":[ ] }"#, Json),
        ("[1,2]", b"[1,2]", Json),
        ("1e400", b"1e400", Json),
        ("false", b"false", Json),
        (r#""aGVsbG8=","payloadEncoding":"utf8""#, b"aGVsbG8=", Utf8),
        (r#""aGVsbG8=","payloadEncoding":"base64""#, b"hello", Base64),
        (r#""aGVsbG8=","payloadEncoding":"json""#, br#""aGVsbG8=""#, Json),
        (r#"[1],"payloadEncoding":null"#, b"[1]", Json),
    ] {
        let taken = open_json(&format!("{{{META},\"messagePayload\":{payload}}}")).expect(payload);
        assert_eq!(
            (String::from_utf8_lossy(&taken.0), taken.1),
            (String::from_utf8_lossy(bytes), encoding),
            "{payload}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_rejected_request_is_told_why_and_where() {
    use ProblemKind::{InvalidMetadata, InvalidPayloadEncoding, MalformedRequest, MissingPayload};
    let deep = format!("{{{META},\"messagePayload\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_metadata =
        format!("{{\"messageMetaData\":{}{}, \"messagePayload\":1}}", "[".repeat(8_000), "]".repeat(8_000));
    for (body, kind, detail) in [
        ("", MalformedRequest, "empty"),
        (" \n", MalformedRequest, "empty"),
        ("hello", MalformedRequest, "not a JSON object"),
        ("[]", MalformedRequest, "not a JSON object"),
        (r#""{\"messageMetaData\":{}}""#, MalformedRequest, "encoded twice"),
        ("\0", MalformedRequest, "not a JSON object"),
        (&format!("{{{META},\"messagePayload\":\"aGVs"), MalformedRequest, "ends too early"),
        (&format!("{{{META},\"messagePayload\":1,}}"), MalformedRequest, "trailing comma"),
        (&format!("{{{META},\"messagePayload\":1}} x"), MalformedRequest, "trailing characters"),
        (&format!("{{{META},\"messagePayload\":1,\"messagePayload\":2}}"), MalformedRequest, "duplicate key"),
        (&format!("{{{META},{META},\"messagePayload\":2}}"), MalformedRequest, "duplicate key"),
        (
            &format!("{{{META},\"messagePayload\":1,\"extra\":2}}"),
            MalformedRequest,
            "move it into messageMetaData",
        ),
        (&format!("{{{META},\"payload\":2}}"), MalformedRequest, "did you mean `messagePayload`?"),
        (r#"{"messageMetadata":{},"messagePayload":1}"#, MalformedRequest, "did you mean `messageMetaData`?"),
        (r#"{"messagePayload":1}"#, MalformedRequest, "messageMetaData is missing"),
        (
            r#"{"messageMetaData":{"MessageType":"t"},"messagePayload":1}"#,
            InvalidMetadata,
            "messageType is missing; rename `MessageType`",
        ),
        (
            r#"{"messageMetaData":{"messageType":"t","messageType":"u"},"messagePayload":1}"#,
            MalformedRequest,
            "duplicate key",
        ),
        (
            r#"{"messageMetaData":{"messageType":"\ud800"},"messagePayload":1}"#,
            MalformedRequest,
            "correct the metadata",
        ),
        (r#"{"messageMetaData":"x","messagePayload":1}"#, InvalidMetadata, "not an object"),
        (
            r#"{"messageMetaData":{},"messagePayload":1}"#,
            InvalidMetadata,
            "messageType, sourceSystemID and dateTime are missing; send each as a string",
        ),
        (&format!("{{{META}}}"), MissingPayload, "is missing"),
        (&format!("{{{META},\"messagePayload\":null}}"), MissingPayload, "is null"),
        (&format!("{{{META},\"messagePayload\":\"\"}}"), MissingPayload, "is empty"),
        (
            &format!("{{{META},\"messagePayload\":\"a b\",\"payloadEncoding\":\"base64\"}}"),
            InvalidPayloadEncoding,
            "not base64",
        ),
        (
            &format!("{{{META},\"messagePayload\":7,\"payloadEncoding\":\"utf8\"}}"),
            InvalidPayloadEncoding,
            "is not",
        ),
        (
            &format!("{{{META},\"messagePayload\":7,\"payloadEncoding\":\"gzip\"}}"),
            InvalidPayloadEncoding,
            "gzip",
        ),
        (&format!("{{{META},\"messagePayload\":\"\\ud800\"}}"), MalformedRequest, "send it as base64"),
        (&deep, MalformedRequest, "10000 levels"),
        (&deep_metadata, InvalidMetadata, "deeper"),
    ] {
        let problem = open_json(body).unwrap_err();
        let shown = &body[..body.len().min(80)];
        assert_eq!(problem.kind, kind, "{shown}: {}", problem.detail);
        assert!(problem.detail.contains(detail), "{shown}: {}", problem.detail);
        assert!(problem.path.is_some() || problem.offset.is_some() || body.trim().is_empty(), "{shown}");
    }
}

#[test]
fn an_offset_points_into_the_body() {
    let body = r#"{"messageMetaData":{"messageType" "t"},"messagePayload":1}"#;
    assert_eq!(open_json(body).unwrap_err().offset, Some(34));
    for (text, offset) in [("ab!d", 2), ("a+/!", 3), ("abcde", 5)] {
        let body = format!("{{{META},\"messagePayload\":\"{text}\",\"payloadEncoding\":\"base64\"}}");
        assert_eq!(open_json(&body).unwrap_err().offset, Some(offset), "{text}");
    }
}

#[test]
fn an_offset_beside_a_metadata_path_points_into_the_body() {
    let body = r#"{ "messagePayload":1, "messageMetaData": {"messageType":"t\ud800"} }"#;
    let problem = open_json(body).unwrap_err();
    let (metadata, escape) = (body.find("{\"messageType").unwrap(), body.find("\\ud800").unwrap());
    let offset = problem.offset.unwrap();
    assert!((metadata..escape + 8).contains(&offset), "{offset}: {problem:?}");
}

#[test]
fn a_json_payload_nests_at_most_as_deep_as_readers_can() {
    let nested = |depth: usize| {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        open_json(&format!("{{{META},\"messagePayload\":{payload}}}"))
            .map(drop)
            .map_err(|problem| problem.kind)
    };
    assert_eq!(nested(payload::MAX_DEPTH), Ok(()));
    assert_eq!(nested(payload::MAX_DEPTH + 1), Err(ProblemKind::MalformedRequest));
}

#[test]
fn an_event_that_is_larger_than_lambda_carries_is_too_large() {
    let event = crate::stages::scenarios::request("payload", "", None);
    let with_length = |length: usize| {
        let padding = " ".repeat(length - event.len());
        let padded = Bytes::from([&event[..], padding.as_bytes()].concat());
        read(padded).unwrap().request.map(drop).map_err(|problem| problem.kind)
    };
    assert_eq!(with_length(MAX_EVENT_BYTES), Ok(()));
    assert_eq!(with_length(MAX_EVENT_BYTES + 1), Err(ProblemKind::TooLarge));
}

#[test]
fn the_content_digest_covers_the_body_as_sent() {
    use ProblemKind::{DigestMismatch, InvalidHeader};
    let body = format!("{{{META},\"messagePayload\":1}}");
    let digest = Sha256::of(body.as_bytes()).to_base64();
    for (header, refused) in [
        (format!("sha-256=:{digest}:"), None),
        (format!("sha-512=:AAAA:, sha-256=:{digest}:"), None),
        ("md5=:AAAA:".to_owned(), None),
        (format!("sha-256=:{}:", Sha256::of(b"other").to_base64()), Some(DigestMismatch)),
        ("sha-256=:AAAA:".to_owned(), Some(InvalidHeader)),
        (format!("sha-256={digest}"), Some(InvalidHeader)),
        ("sha-256=(1 2)".to_owned(), Some(InvalidHeader)),
    ] {
        let event = event(&json!({"content-type": "application/json", "content-digest": header}), &body);
        let kind = open(&event, body.as_bytes(), Sha256::of).err().map(|problem| problem.kind);
        assert_eq!(kind, refused, "{header}");
    }
}

#[test]
fn a_replaced_character_is_taken_only_with_a_digest() {
    let body = format!("{{{META},\"messagePayload\":\"a\u{fffd}\"}}");
    assert_eq!(open_json(&body).unwrap_err().kind, ProblemKind::MalformedRequest);
    let digest = format!("sha-256=:{}:", Sha256::of(body.as_bytes()).to_base64());
    let event = event(&json!({"content-digest": digest}), &body);
    assert!(open(&event, body.as_bytes(), Sha256::of).is_ok());
}

#[test]
fn a_content_type_that_is_no_envelope_is_refused() {
    for content_type in ["text/xml", "image/png", "application/cloudevents-batch+json"] {
        let event = event(&json!({"content-type": content_type}), "{}");
        assert_eq!(
            open(&event, b"{}", Sha256::of).unwrap_err().kind,
            ProblemKind::UnsupportedMediaType,
            "{content_type}"
        );
    }
    let batch = event(&json!({"content-type": "application/cloudevents-batch+json"}), "[]");
    let detail = open(&batch, b"[]", Sha256::of).unwrap_err().detail;
    assert!(detail.contains("one event per request"), "{detail}");
}

#[test]
fn the_attributes_of_a_cloud_event_have_at_most_16_kb() {
    let sized = |bytes: usize| {
        let mandatory: usize =
            ["specversion\"1.0\"", "type\"t\"", "source\"/s\"", "id\"7\"", "time\"2026-01-31T09:30:00Z\""]
                .iter()
                .map(|text| text.len())
                .sum();
        let value = "x".repeat(bytes - mandatory - "note\"\"".len());
        structured(&format!(r#","time":"2026-01-31T09:30:00Z","note":"{value}""#), r#","data":1"#).map(drop)
    };
    assert_eq!(sized(crate::metadata::MAX_METADATA_BYTES), Ok(()));
    let problem = sized(crate::metadata::MAX_METADATA_BYTES + 1).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::InvalidMetadata);
    assert!(problem.detail.contains("the event's attributes have 16385 bytes"), "{}", problem.detail);
}

#[test]
fn a_content_type_that_no_object_can_have_is_refused() {
    for content_type in ["/png", "image/", "image", "ümage/png", &format!("image/{}", "x".repeat(250))] {
        let datacontenttype = format!(r#","time":"2026-01-31T09:30:00Z","datacontenttype":"{content_type}""#);
        let problem = structured(&datacontenttype, r#","data_base64":"aGVsbG8=""#).unwrap_err();
        assert!(problem.detail.contains("not a media type"), "{content_type}: {}", problem.detail);
    }
}

fn structured(attributes: &str, data: &str) -> Result<(Value, Vec<u8>, String), Problem> {
    let body = format!(
        "{{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"/s\",\"id\":\"7\"{attributes}{data}}}"
    );
    let event = event(&json!({"content-type": CLOUD_EVENT}), &body);
    open(&event, body.as_bytes(), Sha256::of).map(|e| {
        let payload = payload_part(e.content);
        (serde_json::to_value(&e.metadata).unwrap(), payload.content.into_owned(), payload.content_type)
    })
}

#[test]
fn a_structured_cloud_event_is_a_record() {
    let time = r#","time":"2026-01-31T09:30:00Z","subject":"x","priority":3,"dataschema":null"#;
    let (meta, bytes, content_type) = structured(time, r#","data":{"a": 1}"#).unwrap();
    assert_eq!(
        meta,
        json!({"messageType": "t", "sourceSystemID": "/s", "sourceTransactionID": "7",
               "dateTime": "2026-01-31T09:30:00Z", "specversion": "1.0", "subject": "x", "priority": 3})
    );
    assert_eq!((bytes.as_slice(), content_type.as_str()), (br#"{"a": 1}"#.as_slice(), "application/json"));

    for (extra, data, bytes) in [
        (r#","datacontenttype":"image/png""#, r#","data_base64":"aGVsbG8=""#, b"hello".as_slice()),
        (r#","datacontenttype":"text/plain""#, r#","data":"aGVsbG8=""#, b"aGVsbG8="),
        (r#","datacontenttype":"application/x+json""#, r#","data":"x""#, br#""x""#),
        (r#","datacontenttype":"text/xml""#, r#","data":[1]"#, b"[1]"),
        ("", r#","data":"aGVsbG8=""#, br#""aGVsbG8=""#),
    ] {
        assert_eq!(structured(&format!("{time}{extra}"), data).unwrap().1, bytes, "{extra}{data}");
    }
}

#[test]
fn a_structured_cloud_event_that_is_incomplete_is_refused() {
    let time = r#","time":"2026-01-31T09:30:00Z""#;
    for (attributes, data, kind) in [
        ("", r#","data":1"#, ProblemKind::InvalidMetadata),
        (time, "", ProblemKind::MissingPayload),
        (time, r#","data":null"#, ProblemKind::MissingPayload),
        (time, r#","data":1,"data_base64":"aGVsbG8=""#, ProblemKind::MalformedRequest),
        (time, r#","data_base64":"?""#, ProblemKind::InvalidPayloadEncoding),
        (time, r#","data_base64":7"#, ProblemKind::InvalidPayloadEncoding),
        (time, r#","ext":{},"data":1"#, ProblemKind::InvalidMetadata),
        (time, r#","messageType":"other","data":1"#, ProblemKind::InvalidMetadata),
        (time, r#","datacontenttype":"text/plain\n","data":"x""#, ProblemKind::InvalidMetadata),
        (time, r#","datacontenttype":"nonsense","data":"x""#, ProblemKind::InvalidMetadata),
        (time, r#","count":12345678901234567890,"data":1"#, ProblemKind::InvalidMetadata),
    ] {
        assert_eq!(structured(attributes, data).unwrap_err().kind, kind, "{attributes}{data}");
    }
    // The problem names what was sent, and not the field that it becomes.
    let problem = structured(r#","time":"yesterday""#, r#","data":1"#).unwrap_err();
    assert_eq!(problem.path.as_deref(), Some("time"));
    assert!(problem.detail.starts_with("time `yesterday` is not a date and time"), "{}", problem.detail);
}

#[test]
fn a_structured_cloud_event_may_repeat_its_attributes_as_headers() {
    let body =
        r#"{"specversion":"1.0","type":"t","source":"/s","id":"7","time":"2026-01-31T09:30:00Z","data":[1]}"#;
    let event = event(&json!({"content-type": CLOUD_EVENT, "ce-specversion": "1.0", "ce-type": "t"}), body);
    let envelope = open(&event, body.as_bytes(), Sha256::of).unwrap();
    assert_eq!(payload_part(envelope.content).content.as_ref(), b"[1]");
}

#[test]
fn a_compressed_body_is_refused() {
    for (encoding, taken) in [("gzip", false), ("identity", true)] {
        let body = format!("{{{META},\"messagePayload\":1}}");
        let event = event(&json!({"content-type": "application/json", "content-encoding": encoding}), &body);
        assert_eq!(open(&event, body.as_bytes(), Sha256::of).is_ok(), taken, "{encoding}");
    }
}

#[test]
fn a_binary_cloud_event_is_a_record_of_its_body() {
    let headers = json!({
        "Content-Type": "image/png", "CE-SpecVersion": "1.0", "ce-type": "t", "ce-source": "/s",
        "ce-id": "7", "ce-time": "2026-01-31T09:30:00Z", "ce-note": "caf%C3%A9",
    });
    let event = json!({"headers": headers, "body": "aGVsbG8=", "isBase64Encoded": true}).to_string();
    let request = read(event.into()).unwrap().request.unwrap();
    let meta = serde_json::to_value(&request.metadata).unwrap();
    let payload = payload_of(request);
    assert_eq!(payload.content, b"hello".as_slice());
    assert_eq!(payload.content_type, "image/png");
    assert_eq!(payload.encoding, PayloadEncoding::Binary);
    assert_eq!(meta["note"], "café");
    assert_eq!(meta["messageType"], "t");
}

/// Returns the reference in a body of this content type, with its metadata.
fn reference(headers: &Value, body: &str) -> Result<(PayloadReference, Value), Problem> {
    let event = event(headers, body);
    let envelope = open(&event, body.as_bytes(), Sha256::of)?;
    let metadata = serde_json::to_value(&envelope.metadata).unwrap();
    match envelope.content {
        ContentPart::Reference(reference) => Ok((reference, metadata)),
        ContentPart::Payload(payload) => panic!("{payload:?} is no reference"),
    }
}

#[test]
fn a_payload_may_be_sent_by_reference_in_every_form() {
    let digest = Sha256::of(b"x");
    let in_json =
        |reference: &str| reference_in_json(&format!("{{{META},\"payloadReference\":{reference}}}"));
    let full = format!(r#"{{"uri":"s3://scans/a b.png","versionId":"v1","sha256":"{digest}"}}"#);
    let (found, _) = in_json(&full).unwrap();
    assert_eq!(
        (found.uri.version_id.as_deref(), found.sha256, found.content_type),
        (Some("v1"), Some(digest), None)
    );
    for (reference, path) in [
        ("7", "$.payloadReference"),
        (r#"{"sha256":"ab"}"#, "$.payloadReference.uri"),
        (r#"{"uri":7}"#, "$.payloadReference.uri"),
        (r#"{"uri":"https://scans/a"}"#, "$.payloadReference.uri"),
        (r#"{"uri":"s3://scans/../a"}"#, "$.payloadReference.uri"),
        (r#"{"uri":"s3://scans/a","sha256":"ab"}"#, "$.payloadReference.sha256"),
        (r#"{"uri":"s3://scans/a","versionId":"a b"}"#, "$.payloadReference.versionId"),
        (r#"{"uri":"s3://scans/a","etag":"1"}"#, "$.payloadReference.etag"),
        (r#"{"uri":"s3://scans/a"},"messagePayload":"x""#, "$.payloadReference"),
        (r#"{"uri":"s3://scans/a"},"payloadEncoding":"utf8""#, "$.payloadReference"),
    ] {
        let problem = in_json(reference).unwrap_err();
        assert_eq!(
            (problem.kind, problem.path.as_deref()),
            (ProblemKind::MalformedRequest, Some(path)),
            "{reference}"
        );
    }

    let attributes = r#""specversion":"1.0","type":"t","source":"/s","id":"7","time":"2026-01-31T09:30:00Z""#;
    let body = format!("{{{attributes},\"datacontenttype\":\"image/png\",\"dataref\":\"s3://scans/a\"}}");
    let (found, metadata) = reference(&json!({"content-type": CLOUD_EVENT}), &body).unwrap();
    assert_eq!(
        (found.uri.to_string().as_str(), found.content_type.as_deref()),
        ("s3://scans/a", Some("image/png"))
    );
    assert_eq!(metadata["dataref"], "s3://scans/a");
    let headers = json!({
        "ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "7", "ce-time": "2026-01-31T09:30:00Z",
        "ce-dataref": "s3://scans/a", "content-type": "image/png",
    });
    assert_eq!(reference(&headers, "").unwrap().0, found);

    // An event that has data as well carries its payload itself.
    let (_, payload, _) =
        structured(r#","time":"2026-01-31T09:30:00Z","dataref":"s3://scans/a""#, r#","data":[1]"#).unwrap();
    assert_eq!(payload, b"[1]");
}

fn reference_in_json(body: &str) -> Result<(PayloadReference, Value), Problem> {
    reference(&json!({"content-type": "application/json"}), body)
}
