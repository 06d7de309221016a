//! Cuts a large payload out of an event before the event is parsed.
//!
//! Most of a large event is one run of base64. The run is found without parsing: it lies between the last quotation
//! mark or backslash before it and the first one after it. A short placeholder replaces the run, and the small event
//! that remains is parsed like any other. If the payload of that event is the placeholder, the run is the payload,
//! provided that it is base64.
//!
//! *Invariant:* the placeholder is random, new for every event, and occurs in one place, directly after a quotation
//! mark, so that no escape of the producer includes a part of it. A payload that decodes to the placeholder *is* in
//! that place, whatever a producer sends. In every other case the whole event is parsed.

use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

use super::{Content, Payload, Request};
use crate::{
    digest::{Hasher, Sha256},
    message::PayloadEncoding,
    proxy::{ProxyEvent, RequestContext},
};

/// The minimum length of a run that is cut out, in bytes.
const MIN_RUN_BYTES: usize = 8 * 1024;

/// The maximum number of quotation marks and backslashes to examine on each side. An event with more of them has many
/// small parts.
const MAX_MARKS: usize = 4096;

/// An event in which a placeholder replaces the largest run, which may be base64.
#[derive(Debug)]
pub(super) struct Cut {
    run: Range<usize>,
    /// The event with the placeholder.
    remainder: Bytes,
    /// The bytes to which the placeholder decodes.
    placeholder: [u8; 30],
}

impl Cut {
    /// Cuts the run out of an event. Returns `None` if the event has no large run that may be base64.
    pub(super) fn of(event: &[u8]) -> Option<Self> {
        let run = large_run(event)?;
        // After a backslash, the run's first character would belong to an escape.
        if event[..run.start].last() != Some(&b'"') || !begins_as_base64(&event[run.clone()]) {
            return None;
        }
        let mut placeholder = [0; 30];
        for half in placeholder.chunks_exact_mut(15) {
            half.copy_from_slice(&Uuid::new_v4().as_bytes()[..15]);
        }
        // The text of the placeholder begins with `A`, with which no JSON escape begins.
        placeholder[0] = 0;
        let text = base64_simd::STANDARD.encode_to_string(placeholder);
        let remainder = [&event[..run.start], text.as_bytes(), &event[run.end..]].concat().into();
        Some(Self { run, remainder, placeholder })
    }

    /// Returns the position of the run in the event.
    pub(super) fn run(&self) -> Range<usize> {
        self.run.clone()
    }

    /// Returns the request, its payload and its context if the payload is the placeholder, or `None` if the payload is
    /// something else or there is any problem. `event` is the event from which the run was cut out.
    pub(super) fn request(&self, event: &[u8]) -> Option<(Request, Payload, RequestContext)> {
        let mut proxied: ProxyEvent<'_> = serde_json::from_slice(&self.remainder).ok()?;
        let digest_of = |body: &[u8]| self.digest_of_whole(body, &event[self.run()]);
        let request = super::request(&mut proxied, &self.remainder, digest_of).ok()?;
        let Content::Payload(payload) = &request.content else { return None };
        let is_decoded = matches!(payload.encoding, PayloadEncoding::Base64 | PayloadEncoding::Binary);
        if !is_decoded || payload.content != self.placeholder.as_slice() {
            return None;
        }
        let payload = payload.clone();
        Some((request, payload, proxied.request_context))
    }
}

impl Cut {
    /// Returns the digest of a body in which the run replaces the placeholder, or of the body itself if the text of the
    /// placeholder is not in it.
    fn digest_of_whole(&self, body: &[u8], run: &[u8]) -> Sha256 {
        let placeholder = base64_simd::STANDARD.encode_to_string(self.placeholder);
        let Some(start) = memchr::memmem::find(body, placeholder.as_bytes()) else { return Sha256::of(body) };
        let mut hasher = Hasher::default();
        for part in [&body[..start], run, &body[start + placeholder.len()..]] {
            hasher.update(part);
        }
        hasher.finish()
    }
}

/// Returns whether a large run may be base64, by its length and its first characters. Most other text already differs
/// from base64 there.
fn begins_as_base64(run: &[u8]) -> bool {
    run.len().is_multiple_of(4) && base64_simd::STANDARD.check(&run[..MIN_RUN_BYTES / 2]).is_ok()
}

/// Returns the range from the last mark before the first large run to the first mark after the last large run, without
/// the two marks. A mark is a quotation mark or a backslash: every JSON string has one on either side, and base64 has
/// none.
fn large_run(event: &[u8]) -> Option<Range<usize>> {
    let (mut start, mut end) = (0, event.len());
    for _ in 0..MAX_MARKS {
        match memchr::memchr2(b'"', b'\\', event.get(start..start + MIN_RUN_BYTES)?) {
            Some(mark) => start += mark + 1,
            None => break,
        }
    }
    for _ in 0..MAX_MARKS {
        let window = end.checked_sub(MIN_RUN_BYTES)?;
        match memchr::memrchr2(b'"', b'\\', &event[window..end]) {
            Some(mark) => end = window + mark,
            None => break,
        }
    }
    (start + MIN_RUN_BYTES <= end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::tests::payload_of, *};
    use crate::envelope::{OriginalEvent, ReadEvent, read_cut, read_whole};

    const HEAD: &str =
        r#""messageMetaData":{"messageType":"t","sourceSystemID":"s","dateTime":"2026-01-31T09:30:00Z"}"#;

    fn event(headers: &Value, body: &str, is_base64_encoded: bool) -> String {
        json!({"headers": headers, "body": body, "isBase64Encoded": is_base64_encoded}).to_string()
    }

    /// Returns the payload as read with the run cut out, and as read from the whole event.
    fn both_ways(event: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let payload = |read: ReadEvent| {
            assert_eq!(read.original.to_bytes(), event.as_bytes(), "the original event can be restored");
            read.request.ok().map(|request| payload_of(request).content.to_vec())
        };
        let cut = read_cut(event.to_owned().into());
        if let Err(untouched) = &cut {
            assert_eq!(untouched, event.as_bytes(), "an event that is read as a whole is unchanged");
        }
        (cut.ok().and_then(payload), read_whole(&event.to_owned().into()).ok().and_then(payload))
    }

    /// Returns whether an event is read with its run cut out.
    fn is_cut(event: &str) -> bool {
        read_cut(event.to_owned().into()).is_ok()
    }

    #[test]
    fn a_large_base64_payload_is_the_same_with_and_without_the_cut() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let text = base64_simd::STANDARD.encode_to_string(&bytes);
        let json = json!({"content-type": "application/json"});
        let cloud_event =
            r#"{"specversion":"1.0","type":"t","source":"/s","id":"7","time":"2026-01-31T09:30:00Z","#;
        let binary = json!({"content-type": "image/png", "ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s",
            "ce-id": "7", "ce-time": "2026-01-31T09:30:00Z"});
        for event in [
            event(&json, &format!("{{{HEAD},\"messagePayload\":\"{text}\"}}"), false),
            event(
                &json,
                &format!("{{\"messagePayload\":\"{text}\",\n\"payloadEncoding\":\"base64\",{HEAD}}}"),
                false,
            ),
            event(
                &json!({"content-type": "application/cloudevents+json"}),
                &format!("{cloud_event}\"datacontenttype\":\"image/png\",\"data_base64\":\"{text}\"}}"),
                false,
            ),
            event(&binary, &text, true),
        ] {
            assert_eq!(both_ways(&event), (Some(bytes.clone()), Some(bytes.clone())), "{}", &event[..300]);
        }
    }

    #[test]
    fn text_that_is_base64_step_by_step_and_not_as_a_whole_stays_text() {
        // The text of a producer that encodes block by block: padding inside the text, at every place where a step may
        // end.
        for blocks in 1..6 {
            let text = format!("{}AA=={}", "AAAA".repeat(blocks * 16 * 1024 - 1), "AAAA".repeat(3_000));
            let body = format!("{{{HEAD},\"messagePayload\":\"{text}\"}}");
            let event = event(&json!({"content-type": "application/json"}), &body, false);
            assert_eq!(both_ways(&event), (None, Some(text.into_bytes())), "{blocks}");
        }
    }

    #[test]
    fn a_content_digest_covers_the_body_that_was_sent() {
        let body = format!("{{{HEAD},\"messagePayload\":\"{}\"}}", "QUJD".repeat(5_000));
        let with_digest = |digest: Sha256| {
            let digest = format!("sha-256=:{}:", digest.to_base64());
            event(&json!({"content-type": "application/json", "content-digest": digest}), &body, false)
        };
        let right = both_ways(&with_digest(Sha256::of(body.as_bytes())));
        assert_eq!(right, (Some(b"ABC".repeat(5_000)), Some(b"ABC".repeat(5_000))));
        assert_eq!(both_ways(&with_digest(Sha256::of(b"another body"))), (None, None));
    }

    #[test]
    fn a_run_that_is_not_the_payload_is_not_taken_for_it() {
        let run = "A".repeat(20_000);
        let json = json!({"content-type": "application/json"});
        for (event, payload) in [
            // The run is after an escape, in a payload that is text or JSON, in a header, in another field, and after
            // the body.
            (event(&json, &format!("{{{HEAD},\"messagePayload\":\"\\u0041{run}\"}}"), false), Some(20_001)),
            (
                event(
                    &json,
                    &format!("{{{HEAD},\"payloadEncoding\":\"utf8\",\"messagePayload\":\"{run}\"}}"),
                    false,
                ),
                Some(20_000),
            ),
            (event(&json, &format!("{{{HEAD},\"messagePayload\":[\"{run}\"]}}"), false), Some(20_004)),
            (
                event(
                    &json!({"content-type": "application/json", "x": run}),
                    &format!("{{{HEAD},\"messagePayload\":\"eA==\"}}"),
                    false,
                ),
                Some(1),
            ),
            (
                event(&json, &format!("{{{HEAD},\"messagePayload\":\"eA==\",\"other\":\"{run}\"}}"), false),
                None,
            ),
            (event(&json, &format!("{{{HEAD},\"messagePayload\":\"eA==\"}} {run}"), false), None),
        ] {
            let (cut_out, whole) = both_ways(&event);
            assert_eq!(cut_out, None, "{}", &event[..300]);
            assert_eq!(whole.map(|bytes| bytes.len()), payload, "{}", &event[..300]);
        }
    }

    #[test]
    fn an_escape_before_the_run_is_no_part_of_it() {
        let json = json!({"content-type": "application/json"});
        // In each case, the run would be canonical base64 if its first characters did not belong to the escape.
        for (escape, rest) in [("n", 3), ("t", 3), ("/", 3), ("q", 3), ("u002B", 3), ("u0041", 3)] {
            let run = "A".repeat(20_000 + rest);
            let sent = format!("{{{HEAD},\"messagePayload\":\"\\{escape}{run}\"}}");
            let event = event(&json, &sent, false);
            assert!(!is_cut(&event), "{escape}");
            // The same is true if the escape belongs to the proxy event itself.
            let raw = event.replacen("\\\\", "\\", 1);
            assert!(!is_cut(&raw), "{escape}");
        }
    }

    #[test]
    fn whatever_surrounds_the_run_both_ways_of_reading_agree() {
        let json = json!({"content-type": "application/json"});
        let around = [
            "",
            "A",
            "=",
            "\\n",
            "\\/",
            "\\\\",
            "\\\"",
            "\\u0041",
            "\\u002B",
            "\\q",
            "\n",
            "\"",
            "\",\"x\":\"",
            "[\"",
            "\u{e4}",
        ];
        let (mut cut, mut same) = (0, 0);
        for before in around {
            for after in around {
                for length in MIN_RUN_BYTES..MIN_RUN_BYTES + 4 {
                    let payload = format!("{before}{}{after}", "A".repeat(length));
                    let sent = format!("{{{HEAD},\"messagePayload\":\"{payload}\"}}");
                    let proper = event(&json, &sent, false);
                    // The same without the escapes that the proxy event needs; the result is another event, or no event
                    // at all.
                    let careless =
                        proper.replace(&json!(payload).to_string().trim_matches('"').to_owned(), &payload);
                    for event in [proper, careless] {
                        let (cut_out, whole) = both_ways(&event);
                        cut += usize::from(Cut::of(event.as_bytes()).is_some());
                        if cut_out.is_some() {
                            assert!(cut_out == whole, "{before:?} {after:?} {length}");
                            same += 1;
                        }
                    }
                }
            }
        }
        assert!(cut > same && same > 0, "{cut} cut, {same} the same");
    }

    #[test]
    fn small_or_broken_runs_stay_where_they_are() {
        let long = "A".repeat(MIN_RUN_BYTES);
        let is_decoded = |event: &str| {
            let cut = Cut::of(event.as_bytes());
            cut.is_some_and(|cut| OriginalEvent::decode(event.to_owned().into(), cut.run()).is_ok())
        };
        for event in [
            format!("\"{}\"", &long[1..]),
            format!("\"{long}\u{e4}\""),
            format!("\"{long}A\""),
            format!("{}\"{long}\"", "\"".repeat(MAX_MARKS)),
            format!("\"{long}\"{}", "\"".repeat(MAX_MARKS)),
            format!("\"{long}\",\"{long}\""),
        ] {
            assert!(!is_decoded(&event));
        }
        assert!(is_decoded(&format!("\"{long}\"")));
    }
}
