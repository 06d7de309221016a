//! What a payload without a declared encoding may have been meant as: a word that is base64 by chance, or base64 that is kept as text.

use base64_simd::STANDARD;
use serde_json::value::RawValue;

use crate::receipt::Warning;

/// Returns a warning if the producer may have meant another payload than the one that was understood.
pub(super) fn misread(raw: &RawValue, path: &str) -> Option<Warning> {
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    let detail = decoded_word(text).or_else(|| kept_base64(text))?;
    Some(Warning { at: path.to_owned(), detail })
}

/// The longest word that is taken for one.
const LONGEST_WORD: usize = 32;

/// Warns of a word or a number that is base64 at the same time, such as `test`.
fn decoded_word(word: &str) -> Option<String> {
    let rest = word.get(1..)?;
    let is_word = word.bytes().all(|byte| byte.is_ascii_digit())
        || word.bytes().all(|byte| byte.is_ascii_uppercase())
        || (word.as_bytes()[0].is_ascii_alphabetic() && rest.bytes().all(|byte| byte.is_ascii_lowercase()));
    if !is_word || word.len() > LONGEST_WORD {
        return None;
    }
    let bytes = STANDARD.decode_to_vec(word).ok()?.len();
    Some(format!(
        "\"{word}\" was decoded from base64 to {bytes} bytes; send payloadEncoding \"utf8\" if it is text, or \"base64\" if it is not"
    ))
}

/// The shortest string that is taken for base64 with line breaks or of the other alphabet.
const SHORTEST_BASE64: usize = 64;

/// Warns of a string that would be base64 without its line breaks, its prefix or its alphabet, and is archived as text. `text` is the
/// string with its escapes.
fn kept_base64(text: &str) -> Option<String> {
    let otherwise = "or payloadEncoding \"utf8\" if it is meant as text";
    if text.starts_with("data:") && text.bytes().take(256).collect::<Vec<_>>().windows(8).any(is_data_prefix)
    {
        return Some(format!(
            "the payload is a data URL, which is archived as text; send what follows its comma, with payloadEncoding \"base64\", {otherwise}"
        ));
    }
    let (mut symbols, mut breaks, mut foreign) = (0_usize, false, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (b'-' | b'_', _) => foreign = true,
            (b'+' | b'/' | b'=', _) => {}
            (byte, _) if byte.is_ascii_alphanumeric() => {}
            (_, true) => match bytes.next()? {
                b'n' | b'r' => {
                    breaks = true;
                    continue;
                }
                b'/' => {}
                _ => return None,
            },
            _ => return None,
        }
        symbols += 1;
    }
    let is_varied = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit]
        .iter()
        .all(|is_of| text.bytes().any(|byte| is_of(&byte)));
    if symbols < SHORTEST_BASE64 || !is_varied || (!foreign && symbols % 4 != 0) {
        return None;
    }
    let what = match (breaks, foreign) {
        (true, false) => "base64 with line breaks",
        (_, true) => "base64 of the alphabet with - and _",
        (false, false) => return None,
    };
    Some(format!(
        "the payload looks like {what}, and is archived as text; send base64 without line breaks, of the alphabet with + and /, with \
         payloadEncoding \"base64\", {otherwise}"
    ))
}

fn is_data_prefix(window: &[u8]) -> bool {
    window == b";base64,"
}
