//! Scans JSON text without parsing it: for its nesting depth, and for numbers that readers would change.

/// Returns the deepest nesting of arrays and objects in well-formed JSON text.
///
/// The scan is iterative, because the text comes from a producer and may be nested as deep as it is long.
pub fn nesting_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Returns the first number in well-formed JSON text that a reader with 64-bit floats would change, or that DynamoDB
/// would reject.
///
/// Exact numbers are integers up to 2^53 - 1 (RFC 7493, I-JSON) and decimals of at most 15 significant digits, which a
/// 64-bit float reproduces, of a magnitude from 1E-125 to 9E+125 or zero.
pub fn first_inexact_number(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                let number = &json[at..at + length];
                if !is_exact(number) {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// Returns the position after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn is_exact(number: &str) -> bool {
    const MAX_INTEGER: u64 = (1 << 53) - 1;
    if let Ok(integer) = number.parse::<i64>() {
        return integer.unsigned_abs() <= MAX_INTEGER;
    }
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return true;
    }
    let magnitude = number.parse::<f64>().map_or(f64::INFINITY, f64::abs);
    significant.len() <= 15 && (1e-125..=9e125).contains(&magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_float_would_change_are_found() {
        for kept in [
            "0",
            "-0.0",
            "0e400",
            "9007199254740991",
            "-9007199254740991",
            "0.1",
            "1.50",
            "123456789.012345",
            "1e15",
            "1E-125",
            "9e125",
            r#""1e400""#,
            r#"{"a\"1e400":[true,1.5]}"#,
        ] {
            assert_eq!(first_inexact_number(kept), None, "{kept}");
        }
        for changed in [
            "9007199254740992",
            "-9223372036854775808",
            "12345678901234567890",
            "9007199254740993.0",
            "0.12345678901234567",
            "1e-400",
            "1e400",
            "1e126",
        ] {
            let json = format!("{{\"a\": [ {changed} ]}}");
            assert_eq!(first_inexact_number(&json), Some(changed));
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[{"b":"[[[\"[["}]}"#, 3), ("[[],[[]]]", 3)] {
            assert_eq!(nesting_depth(text), depth, "{text}");
        }
        assert_eq!(nesting_depth(&("[".repeat(10_000) + &"]".repeat(10_000))), 10_000);
    }
}
