//! Records to send: generated ones of any kind and size, envelopes around a given payload, and request bodies from
//! files.

use std::{fmt::Write as _, path::Path, str::FromStr};

use anyhow::{Context as _, bail};
use custody_core::{MAX_EVENT_BYTES, digest::Sha256};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

/// Kind of a generated payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Lines of text with escapes and non-ASCII characters, sent as a string.
    Text,
    /// An array of objects, sent as a JSON value.
    Json,
    /// A PNG image of noise, sent as base64.
    Png,
    /// Random bytes, sent as base64.
    Random,
}

/// The size of a payload to generate, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A number of bytes.
    Bytes(usize),
    /// The largest size that fits into one Lambda event.
    Largest,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Largest);
        }
        let (digits, unit) = match text.to_ascii_lowercase() {
            t if t.ends_with("kb") => (t[..t.len() - 2].to_owned(), 1 << 10),
            t if t.ends_with("mb") => (t[..t.len() - 2].to_owned(), 1 << 20),
            t => (t, 1),
        };
        let number: usize = digits
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a size; write 4096, 256KB, 3MB or max"))?;
        Ok(Self::Bytes(number * unit))
    }
}

/// A record to send, with the payload and the metadata that must be stored.
#[derive(Clone, Debug)]
pub struct Record {
    /// Name of the record in printed results.
    pub label: String,
    /// The request body.
    pub body: String,
    /// The bytes that must be archived.
    pub payload: Vec<u8>,
    /// The metadata that must be stored.
    pub metadata: Value,
}

impl Record {
    /// Generates a record. Equal seeds generate equal records.
    pub fn generate(kind: Kind, size: Size, seed: u64) -> Self {
        match size {
            Size::Bytes(bytes) => Self::of_size(kind, bytes, seed),
            Size::Largest => Self::largest(kind, seed),
        }
    }

    fn of_size(kind: Kind, bytes: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let (message_type, payload) = match kind {
            Kind::Text => ("text", text(bytes, &mut random)),
            Kind::Json => ("json", json_array(bytes, &mut random)),
            Kind::Png => ("imageB64", png(bytes, &mut random)),
            Kind::Random => ("binary", noise(bytes, &mut random)),
        };
        let metadata = json!({
            "messageType": message_type,
            "sourceSystemID": "custody-test-client",
            "sourceTransactionID": format!("{seed:016x}-{bytes}"),
            "dateTime": "2026-11-20 22:21:00.123456",
        });
        let label = format!("{} {}", message_type, human_size(payload.len()));
        Self::new(label, metadata, payload, kind)
    }

    /// Builds a record whose request body is the envelope around `payload`.
    pub fn new(label: String, metadata: Value, payload: Vec<u8>, kind: Kind) -> Self {
        let text = || std::str::from_utf8(&payload).expect("text and JSON payloads are UTF-8");
        let body = match kind {
            Kind::Text => format!(
                r#"{{"messageMetaData":{metadata},"messagePayload":{},"payloadEncoding":"utf8"}}"#,
                Value::from(text())
            ),
            Kind::Json => format!(r#"{{"messageMetaData":{metadata},"messagePayload":{}}}"#, text()),
            Kind::Png | Kind::Random => format!(
                r#"{{"messageMetaData":{metadata},"messagePayload":"{}"}}"#,
                base64_simd::STANDARD.encode_to_string(&payload)
            ),
        };
        Self { label, body, payload, metadata }
    }

    /// Reads the request body of an existing producer from a file. The payload that must be archived is decoded by the
    /// rules of the wire format, independently of Custody's own code.
    pub fn from_file(file: &Path) -> anyhow::Result<Self> {
        let body = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let envelope: Value =
            serde_json::from_str(&body).with_context(|| format!("read {} as JSON", file.display()))?;
        let payload = match (&envelope["messagePayload"], envelope["payloadEncoding"].as_str()) {
            (Value::String(text), None | Some("base64")) => {
                base64_simd::STANDARD.decode_to_vec(text).unwrap_or_else(|_| text.clone().into_bytes())
            }
            (Value::String(text), Some("utf8")) => text.clone().into_bytes(),
            _ => bail!(
                "{} has no payload of text or base64, so the bytes that must be archived are unknown",
                file.display()
            ),
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let label = format!("{name} {}", human_size(payload.len()));
        Ok(Self { label, body, payload, metadata: envelope["messageMetaData"].clone() })
    }

    /// Generates the largest record of a kind whose event stays within Lambda's limit. The event carries the body as a
    /// JSON string, and its size after escaping cannot be computed beforehand, so a binary search tries sizes.
    fn largest(kind: Kind, seed: u64) -> Self {
        let (mut fits, mut too_large) = (1 << 20, MAX_EVENT_BYTES);
        while too_large - fits > 1024 {
            let middle = fits.midpoint(too_large);
            match Self::of_size(kind, middle, seed) {
                record if record.event_size() <= MAX_EVENT_BYTES => fits = middle,
                _ => too_large = middle,
            }
        }
        Self::of_size(kind, fits, seed)
    }

    /// Estimates the size of the event that API Gateway builds from the request: the body, escaped as by an emulator
    /// that escapes every character beyond ASCII, and an allowance for the context that API Gateway adds.
    fn event_size(&self) -> usize {
        /// Generous size of the headers (twice) and of the request context of a REST proxy event.
        const CONTEXT_BYTES: usize = 12 * 1024;
        let escaped = Value::from(self.body.as_str()).to_string();
        let size: usize = escaped.chars().map(|c| if c.is_ascii() { 1 } else { 6 * c.len_utf16() }).sum();
        size + CONTEXT_BYTES
    }

    /// Returns the digest that the receipt and the archive must report.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.payload)
    }
}

/// Formats a size in the largest unit in which it is at least one.
pub fn human_size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KB", bytes / 1024),
        _ => format!("{}.{} MB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
    }
}

fn write_to(content: &mut String, text: std::fmt::Arguments<'_>) {
    content.write_fmt(text).expect("writing to a string");
}

fn noise(bytes: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut content = vec![0; bytes];
    random.fill_bytes(&mut content);
    content
}

fn text(bytes: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut content = String::with_capacity(bytes + 64);
    while content.len() < bytes {
        let n = random.next_u32();
        write_to(
            &mut content,
            format_args!("decision {n:08x}: \"granted\"\tby rule\\{} — größer als nötig\n", n % 97),
        );
    }
    // Cut at a character boundary and fill up, so that the size is exact.
    let cut = (0..=bytes).rev().find(|at| content.is_char_boundary(*at)).unwrap_or(0);
    content.truncate(cut);
    content.push_str(&"x".repeat(bytes - cut));
    content.into_bytes()
}

fn json_array(bytes: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut content = String::from("[");
    while content.len() + 128 < bytes {
        let n = random.next_u32();
        write_to(
            &mut content,
            format_args!(
                r#"{{"id": {n}, "score":{}.50, "label":"größe {}", "flags":[true,null]}},"#,
                n % 100,
                n % 7
            ),
        );
    }
    // The last element brings the text to its exact size.
    let rest = bytes.saturating_sub(content.len() + 3);
    write_to(&mut content, format_args!("\"{}\"]", "x".repeat(rest)));
    content.into_bytes()
}

fn png(bytes: usize, random: &mut SmallRng) -> Vec<u8> {
    // Noise does not compress: the file of a square image is about as large as its RGB pixels and the format's framing.
    let side = u32::try_from((bytes.saturating_sub(200) * 100 / 302).isqrt().max(1)).unwrap_or(u32::MAX);
    let mut content = Vec::with_capacity(bytes);
    let mut encoder = png::Encoder::new(&mut content, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fastest);
    let pixels = noise((side * side * 3) as usize, random);
    encoder.write_header().and_then(|mut image| image.write_image_data(&pixels)).expect("writing to memory");
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_payloads_have_their_size_and_repeat_with_their_seed() {
        for kind in [Kind::Text, Kind::Json, Kind::Random] {
            for bytes in [4096, 262_144] {
                let record = Record::generate(kind, Size::Bytes(bytes), 7);
                assert_eq!(record.payload.len(), bytes, "{kind:?}");
                assert_eq!(record.body, Record::generate(kind, Size::Bytes(bytes), 7).body);
                let envelope: Value = serde_json::from_str(&record.body).unwrap();
                assert_eq!(envelope["messageMetaData"], record.metadata);
            }
        }
        let image = Record::generate(Kind::Png, Size::Bytes(262_144), 7);
        assert!((200_000..300_000).contains(&image.payload.len()), "{}", image.payload.len());
    }

    #[test]
    fn the_largest_record_fits_one_event_and_little_more_would_not() {
        for kind in [Kind::Text, Kind::Json, Kind::Random] {
            let event = Record::generate(kind, Size::Largest, 1).event_size();
            assert!((MAX_EVENT_BYTES - 16_384..=MAX_EVENT_BYTES).contains(&event), "{kind:?}: {event}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in [
            ("4096", Size::Bytes(4096)),
            ("256KB", Size::Bytes(262_144)),
            ("3mb", Size::Bytes(3 << 20)),
            ("max", Size::Largest),
        ] {
            assert_eq!(text.parse(), Ok(size));
        }
        assert!("much".parse::<Size>().is_err());
    }
}
