//! Tests of the warnings in a receipt: what a producer may have meant otherwise.

use base64_simd::{STANDARD, URL_SAFE};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    digest::Sha256,
    receipt::{Receipt, Warning},
};

/// Sends a body with these headers, and returns the receipt.
async fn send(body: &Value, headers: &[(&str, &str)]) -> Receipt {
    let mut event: Value = serde_json::from_slice(&request("text", "", None)).unwrap();
    event["body"] = body.to_string().into();
    for (name, value) in headers {
        event["headers"][name] = json!(value);
    }
    let answer = World::default().ingest().run(Bytes::from(event.to_string())).await;
    assert!(answer.response.body.ends_with("}\n"), "{}", answer.response.body);
    receipt(&answer.response)
}

fn metadata() -> Value {
    json!({"messageType": "t", "sourceSystemID": "s", "dateTime": "2026-01-31T09:30:00Z"})
}

async fn warnings_of(payload: Value, encoding: Option<&str>) -> Vec<Warning> {
    let mut body = json!({"messageMetaData": metadata(), "messagePayload": payload});
    if let Some(encoding) = encoding {
        body["payloadEncoding"] = encoding.into();
    }
    send(&body, &[]).await.warnings
}

#[tokio::test]
async fn a_word_that_is_decoded_as_base64_is_reported() {
    for word in [
        "test",
        "Test",
        "APPROVED",
        "12345678",
        "dGVz",
        "order12345678901",
        &"ghijk".repeat(12),
        &"ACGTTGCAAC".repeat(40),
    ] {
        let warnings = warnings_of(word.into(), None).await;
        let [warning] = &*warnings else { panic!("{word}: {warnings:?}") };
        assert_eq!(warning.at, "$.messagePayload");
        assert!(warning.detail.contains("payloadEncoding \"utf8\""), "{}", warning.detail);
        for encoding in ["base64", "utf8"] {
            assert_eq!(warnings_of(word.into(), Some(encoding)).await, [], "{word}");
        }
    }
    for payload in ["dGVzdA==", "no word", "approved!", "abc", "order123456789012345", &"g".repeat(36)] {
        assert_eq!(warnings_of(payload.into(), None).await, [], "{payload}");
    }
    assert_eq!(warnings_of(json!({"test": "test"}), None).await, []);
}

#[tokio::test]
async fn base64_that_is_kept_as_text_is_reported() {
    let bytes: Vec<u8> = (0..96).map(|number: u8| number.wrapping_mul(37)).collect();
    let line = STANDARD.encode_to_string(&bytes);
    assert!(line.contains('/') && line.contains('+') && !line.contains('='), "{line}");
    let url = |bytes: &[u8]| URL_SAFE.encode_to_string(bytes);
    for (payload, what) in [
        (format!("{line}\n{line}\r\n"), "line breaks"),
        (line[..64].to_owned() + "\n", "line breaks"),
        (STANDARD.encode_to_string(&bytes[..95]).trim_end_matches('=').to_owned(), "without its padding"),
        (url(&bytes), "- and _"),
        (url(&bytes[..95]), "- and _"),
        (url(&bytes[..95]).trim_end_matches('=').to_owned(), "- and _"),
        (format!("data:image/png;base64,{line}"), "data URL"),
        ("data:;base64,AA==".to_owned(), "data URL"),
    ] {
        let warnings = warnings_of(payload.as_str().into(), None).await;
        let [warning] = &*warnings else { panic!("{payload}: {warnings:?}") };
        assert!(warning.detail.contains(what) && warning.at == "$.messagePayload", "{}", warning.detail);
        assert_eq!(warnings_of(payload.as_str().into(), Some("utf8")).await, []);
    }
    let prose = "A line of text without 1 blank\nand another one, which is longer than sixty-four characters";
    for payload in [
        line.clone(),
        prose.to_owned(),
        prose.replace(' ', "-"),
        // Names and hexadecimal digits, of which a case or the digits are missing.
        "0123456789abcdef-".repeat(5) + "012",
        "0123456789ABCDEF-".repeat(5) + "012",
        "abcdefghABCDEFGH-".repeat(5) + "abc",
        url(&bytes)[..60].to_owned(),
        "data: of a text".to_owned(),
        "the prefix ;base64, of a data URL".to_owned(),
    ] {
        assert_eq!(warnings_of(payload.as_str().into(), None).await, [], "{payload}");
    }
}

#[tokio::test]
async fn a_receipt_says_how_the_payload_was_understood() {
    for (payload, encoding) in
        [(json!("dGVzdA=="), "base64"), (json!("a text"), "utf8"), (json!({"a": 1}), "json")]
    {
        let receipt = send(&json!({"messageMetaData": metadata(), "messagePayload": payload}), &[]).await;
        assert_eq!(json!(receipt.payload.encoding), encoding);
    }
}

#[tokio::test]
async fn a_field_that_is_almost_called_like_the_transaction_is_reported() {
    for (name, is_reported) in [
        ("sourceTransactionId", true),
        ("source_transaction_id", true),
        ("transactionID", true),
        ("customer", false),
    ] {
        let mut body = json!({"messageMetaData": metadata(), "messagePayload": 1});
        body["messageMetaData"][name] = json!("17");
        let receipt = send(&body, &[]).await;
        let reported: Vec<_> = receipt.warnings.iter().map(|warning| warning.at.as_str()).collect();
        let path = format!("$.messageMetaData.{name}");
        assert_eq!(reported, if is_reported { vec![path.as_str()] } else { vec![] });
        body["messageMetaData"]["sourceTransactionID"] = json!("18");
        assert_eq!(send(&body, &[]).await.warnings, [], "the record has its transaction");
    }
}

#[tokio::test]
async fn a_digest_of_an_unknown_algorithm_is_reported() {
    let body = json!({"messageMetaData": metadata(), "messagePayload": 1});
    let warnings = send(&body, &[("content-digest", "md5=:AAAA:")]).await.warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].at == "Content-Digest" && warnings[0].detail.contains("md5"), "{warnings:?}");
    let digest = Sha256::of(body.to_string().as_bytes()).to_base64();
    let both = format!("md5=:AAAA:, sha-256=:{digest}:");
    assert_eq!(send(&body, &[("content-digest", &both)]).await.warnings, []);
    for (header, at) in [("content-md5", "Content-MD5"), ("digest", "Digest"), ("repr-digest", "Repr-Digest")]
    {
        let warnings = send(&body, &[(header, "1B2M2Y8AsgTpgAmY7PhCfg==")]).await.warnings;
        assert!(warnings.len() == 1 && warnings[0].at == at, "{warnings:?}");
        assert!(warnings[0].detail.contains("Content-Digest: sha-256"), "{warnings:?}");
    }
    let md5 = ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(send(&body, &[("content-digest", &both), md5]).await.warnings, [], "one digest was compared");
}

#[tokio::test]
async fn a_zone_without_a_colon_is_reported() {
    for (date_time, is_reported) in [
        ("2026-01-31T09:30:00+0100", true),
        ("2026-01-31T09:30:00-0800", true),
        ("2026-01-31T09:30:00.5+01", true),
        ("2026-01-31T09:30:00-08:00", false),
        ("2026-01-31T09:30:00+01:00", false),
        ("2026-01-31T09:30:00Z", false),
        ("2026-01-31 09:30:00.123456", false),
    ] {
        let mut body = json!({"messageMetaData": metadata(), "messagePayload": 1});
        body["messageMetaData"]["dateTime"] = date_time.into();
        let warnings = send(&body, &[]).await.warnings;
        assert_eq!(warnings.len(), usize::from(is_reported), "{date_time}");
        assert!(warnings.iter().all(|warning| warning.at == "$.messageMetaData.dateTime"));
    }
}
