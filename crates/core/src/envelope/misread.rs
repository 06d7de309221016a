//! What a payload without a declared encoding may have been meant as: a word that is base64 by chance, or base64 that is kept as text.

use std::borrow::Cow;

use base64_simd::{Base64, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::value::RawValue;

use crate::{json, receipt::Warning};

/// Returns a warning if the text in `data` of a CloudEvent, whose type is not that of text, may have been meant as base64.
pub(super) fn misread_data(raw: &RawValue, content_type: &str, path: &str) -> Option<Warning> {
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if content_type.trim_start().to_ascii_lowercase().starts_with("text/") {
        return None;
    }
    let is_base64 = text.len() > LONGEST_NAME
        && text.bytes().take(SHORTEST_BASE64).all(is_symbol)
        && STANDARD.check(with_slashes(text).as_bytes()).is_ok();
    (is_base64 || kept_base64(text).is_some()).then(|| Warning {
        at: path.to_owned(),
        detail: format!(
            "data is archived as the text that was sent, although its type is `{}`; send canonical base64 in data_base64, if it is not text",
            json::excerpt(content_type)
        ),
    })
}

/// Returns a warning if the producer may have meant another payload than the one that was understood.
pub(super) fn misread(raw: &RawValue, path: &str) -> Option<Warning> {
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    let detail = decoded_word(text).or_else(|| kept_base64(text))?;
    Some(Warning { at: path.to_owned(), detail })
}

/// The longest text of letters and digits that is taken for a name. Base64 of so few bytes is rare.
const LONGEST_NAME: usize = 16;

/// Warns of a word, a name, a number or hexadecimal digits that are base64 at the same time, such as `test`. Base64 of any length rarely
/// has letters only, or hexadecimal digits only, unless it is that of one byte again and again.
fn decoded_word(word: &str) -> Option<String> {
    let all = |is_of: fn(&u8) -> bool| word.bytes().all(|byte| is_of(&byte));
    let is_hex = || {
        all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
            || all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_lowercase())
    };
    let is_varied = || word.as_bytes().chunks(4).any(|four| four != &word.as_bytes()[..4]);
    let is_word = if word.len() <= LONGEST_NAME {
        all(u8::is_ascii_alphanumeric)
    } else {
        (all(u8::is_ascii_alphabetic) || is_hex()) && is_varied()
    };
    if !is_word {
        return None;
    }
    let bytes = STANDARD.decode_to_vec(word).ok()?.len();
    Some(format!(
        "\"{}\" was decoded from base64 to {bytes} bytes; send payloadEncoding \"utf8\" if it is text, or \"base64\" if it is not",
        json::excerpt(word)
    ))
}

/// Returns the text of a JSON string whose slashes may be escaped.
fn with_slashes(text: &str) -> Cow<'_, str> {
    if text.contains("\\/") { text.replace("\\/", "/").into() } else { text.into() }
}

/// Whether a character of a JSON string may be of base64, of either alphabet.
fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=\\".contains(&byte)
}

/// The shortest string that is taken for base64 with line breaks or of the other alphabet.
const SHORTEST_BASE64: usize = 64;

/// Warns of a string that would be base64 without its line breaks, its prefix or its alphabet, and is archived as text. `text` is the
/// string with its escapes.
fn kept_base64(text: &str) -> Option<String> {
    const OTHERWISE: &str = "or payloadEncoding \"utf8\" if it is meant as text";
    if text.starts_with("data:") && text.contains(";base64,") {
        return Some(format!(
            "the payload is a data URL, which is archived as text; send what follows its comma, with payloadEncoding \"base64\", {OTHERWISE}"
        ));
    }
    // Most text has a space among its first characters, and is not looked through.
    if !text.get(..SHORTEST_BASE64)?.bytes().all(is_symbol) || !is_varied(text) {
        return None;
    }
    let text = with_slashes(text);
    if STANDARD.check(text.as_bytes()).is_ok() {
        return None;
    }
    let joined = text.replace("\\r", "").replace("\\n", "");
    let is_base64 = |alphabet: Base64| alphabet.check(joined.as_bytes()).is_ok();
    let what = if is_base64(STANDARD) {
        "base64 with line breaks"
    } else if is_base64(STANDARD_NO_PAD) {
        "base64 without its padding"
    } else if [URL_SAFE, URL_SAFE_NO_PAD].into_iter().any(is_base64) {
        "base64 of the alphabet with - and _"
    } else {
        return None;
    };
    Some(format!(
        "the payload looks like {what}, and is archived as text; send base64 with its padding, without line breaks, of the alphabet with + and /, with \
         payloadEncoding \"base64\", {OTHERWISE}"
    ))
}

/// Whether a string has letters of both cases and digits, as base64 of any length has. Names and hexadecimal digits do not.
fn is_varied(text: &str) -> bool {
    [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit]
        .iter()
        .all(|is_of| text.bytes().any(|byte| is_of(&byte)))
}
