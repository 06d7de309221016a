//! Decodes base64 in the memory of its text, so that megabytes of text need no second buffer.

use std::ops::Range;

use base64_simd::{Out, STANDARD};

/// How many bytes are decoded at once: few enough for a processor's second-level cache.
const DECODED_STEP: usize = 48 * 1024;
const TEXT_STEP: usize = DECODED_STEP / 3 * 4;

/// Decodes base64 (the standard alphabet, padded, without line breaks, canonical) that fills the buffer. The decoded
/// bytes are written to the beginning of the buffer. Returns their number, or `None` if the text is not base64; the
/// buffer is then unchanged.
pub(super) fn decode(buffer: &mut [u8]) -> Option<usize> {
    let (mut read, mut written) = (0, 0);
    while read < buffer.len() {
        let text_end = buffer.len().min(read + TEXT_STEP);
        let Some(step) = decode_step(buffer, read..text_end, written) else {
            restore_text(buffer, written);
            return None;
        };
        read = text_end;
        written += step;
    }
    Some(written)
}

/// Decodes a part of the buffer to `target`, which is not behind that part. Returns the number of decoded bytes, or
/// `None` if the part is not base64 or has padding before the buffer's end; the part is then unchanged.
fn decode_step(buffer: &mut [u8], text: Range<usize>, target: usize) -> Option<usize> {
    let is_last = text.end == buffer.len();
    let is_whole = |decoded: &[u8]| is_last || decoded.len() == DECODED_STEP;
    if text.start - target >= DECODED_STEP {
        let (decoded, text_on) = buffer.split_at_mut(text.start);
        let space = Out::from_slice(&mut decoded[target..][..DECODED_STEP]);
        let step = STANDARD.decode(&text_on[..text.len()], space).ok()?;
        return is_whole(step).then_some(step.len());
    }
    // In the first steps, the text is too close to its target for a decoding without a copy.
    let step = STANDARD.decode_to_vec(&buffer[text]).ok().filter(|step| is_whole(step))?;
    buffer[target..][..step.len()].copy_from_slice(&step);
    Some(step.len())
}

/// Undoes complete steps of [`decode`], which have written `decoded` bytes. The last step is undone first, because no
/// other step's bytes lie where its text belongs. The result is the original text, because bytes have only one
/// canonical base64 text.
fn restore_text(buffer: &mut [u8], decoded: usize) {
    for step in (0..decoded / DECODED_STEP).rev() {
        let text = STANDARD.encode_type::<Vec<u8>>(&buffer[step * DECODED_STEP..][..DECODED_STEP]);
        buffer[step * TEXT_STEP..][..TEXT_STEP].copy_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn base64_of_every_length_is_decoded() {
        for length in [0, 1, 2, 3, DECODED_STEP - 1, DECODED_STEP, DECODED_STEP + 1, 3 * DECODED_STEP + 2] {
            let mut buffer = STANDARD.encode_type::<Vec<u8>>(&bytes(length));
            let decoded = decode(&mut buffer).unwrap();
            assert_eq!(buffer[..decoded], bytes(length));
        }
    }

    #[test]
    fn padding_at_the_end_of_any_step_but_the_last_is_no_base64() {
        // Each step is canonical by itself: no stray bits precede its padding.
        for step in 1..=6 {
            for padding in [1, 2] {
                let mut text = vec![b'A'; 6 * TEXT_STEP + 4];
                text[step * TEXT_STEP - padding..step * TEXT_STEP].fill(b'=');
                let mut buffer = text.clone();
                assert_eq!(decode(&mut buffer), None);
                assert!(buffer == text, "{padding} characters at the end of step {step}");
            }
        }
    }

    #[test]
    fn what_is_not_canonical_base64_stays_as_it_was() {
        let text = STANDARD.encode_type::<Vec<u8>>(&bytes(3 * DECODED_STEP + 1));
        let with = |at: usize, byte: u8| {
            let mut text = text.clone();
            text[at] = byte;
            text
        };
        let end = text.len();
        for spoiled in [
            with(0, b'-'),
            with(TEXT_STEP, b'"'),
            with(2 * TEXT_STEP + 7, b'\n'),
            // Padding inside the text, here at the end of a step.
            with(TEXT_STEP - 1, b'='),
            with(end - 1, b'A'),
            // A stray bit in the last character.
            with(end - 3, b'B'),
            text[..end - 1].to_vec(),
            [text.clone(), text.clone()].concat(),
        ] {
            let mut buffer = spoiled.clone();
            assert_eq!(decode(&mut buffer), None);
            assert!(buffer == spoiled);
        }
    }
}
