//! Cursors of lists: the record after which the next page begins.
//!
//! A cursor carries no right: each request is checked by itself. The digest in a cursor ties it to the question and the
//! principal for which it was made, so that a cursor of another question is an error and not a wrong page.

use super::list::{ListQuestion, invalid};
use crate::{digest::Sha256, problem::Problem, record_id::RecordId};

/// The length of the digest, in hexadecimal digits.
const DIGEST_LENGTH: usize = 32;

/// Returns the cursor of the page that begins after this record.
pub(super) fn encode(after: RecordId, question: &ListQuestion, principal: &str) -> String {
    let content = format!("{}{after}", digest(after, question, principal));
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(content)
}

/// Returns the record of a cursor. A cursor that was altered, or that was made for another question, is a problem.
pub(super) fn decode(text: &str, question: &ListQuestion, principal: &str) -> Result<RecordId, Problem> {
    let content = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok();
    let content = content.and_then(|content| String::from_utf8(content).ok());
    let after = content.as_deref().and_then(|content| {
        let (stated, id) = content.split_at_checked(DIGEST_LENGTH)?;
        let after: RecordId = id.parse().ok()?;
        (stated == digest(after, question, principal)).then_some(after)
    });
    after.ok_or_else(|| {
        invalid(
            "the cursor is not one of this list; send nextCursor of an answer with the same other parameters",
        )
    })
}

fn digest(after: RecordId, question: &ListQuestion, principal: &str) -> String {
    let ListQuestion { lookup, range, status, .. } = question;
    let text = format!("{principal:?} {lookup:?} {range:?} {status:?} {after}");
    let mut digest = Sha256::of(text.as_bytes()).to_string();
    digest.truncate(DIGEST_LENGTH);
    digest
}
