//! Measures the speed of hashing and decoding, which every ingest must do, with the available libraries. The functions'
//! times are compared with these speeds on a processor without SHA-256 instructions.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use sha2::Digest as _;

/// The number of bytes to hash or decode: as many as the largest payload has.
const BYTES: usize = 4_700_000;

/// The number of times that each library does its work. The fastest time counts, because disturbances only make a time
/// longer.
const ROUNDS: usize = 9;

/// The size of the pieces in which ingest hashes a payload.
const PIECE: usize = 32 * 1024;

/// The work that a library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Work {
    /// SHA-256.
    #[serde(rename = "SHA-256")]
    Hash,
    /// Decoding of base64. The speed counts the decoded bytes.
    #[serde(rename = "base64")]
    Decode,
}

/// The speed of a library.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Speed {
    /// Whether the library hashes or decodes.
    pub work: Work,
    /// The name of the library, and whether the functions use it.
    pub library: String,
    /// Units of 10^6 bytes per second.
    pub megabytes_per_second: f64,
}

/// Measures every library, including those that Python uses if an interpreter is given.
pub fn measure(python: Option<&Path>) -> anyhow::Result<Vec<Speed>> {
    let bytes: Vec<u8> = (0..=255).cycle().take(BYTES).collect();
    let text = base64_simd::STANDARD.encode_to_string(&bytes);
    let mut decoded = vec![0; BYTES];
    let ring = fastest(|| {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        bytes.chunks(PIECE).for_each(|piece| context.update(piece));
        std::hint::black_box(context.finish());
    });
    let sha2 = fastest(|| {
        let mut hasher = sha2::Sha256::new();
        bytes.chunks(PIECE).for_each(|piece| hasher.update(piece));
        std::hint::black_box(hasher.finalize());
    });
    let simd = fastest(|| {
        let out = base64_simd::Out::from_slice(&mut decoded);
        std::hint::black_box(base64_simd::STANDARD.decode(text.as_bytes(), out).is_ok());
    });
    #[cfg(feature = "aws-lc")]
    let aws_lc = fastest(|| {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        bytes.chunks(PIECE).for_each(|piece| context.update(piece));
        std::hint::black_box(context.finish());
    });
    let mut speeds = vec![
        speed(Work::Hash, "ring (used)", ring),
        speed(Work::Hash, "sha2", sha2),
        #[cfg(feature = "aws-lc")]
        speed(Work::Hash, "aws-lc-rs", aws_lc),
        speed(Work::Decode, "base64-simd (used)", simd),
    ];
    if let Some(python) = python {
        let [hash, decode] = of_python(python)?;
        speeds.push(speed(Work::Hash, "OpenSSL (Python's hashlib)", hash));
        speeds.push(speed(Work::Decode, "Python's binascii", decode));
    }
    Ok(speeds)
}

/// Returns the time that the fastest library takes for this many bytes, in microseconds.
pub fn fastest_us(speeds: &[Speed], work: Work, bytes: usize) -> Option<f64> {
    let of_work = speeds.iter().filter(|speed| speed.work == work);
    let fastest = of_work.map(|speed| speed.megabytes_per_second).max_by(f64::total_cmp)?;
    #[expect(clippy::cast_precision_loss, reason = "the size of a payload")]
    Some(bytes as f64 / fastest)
}

fn fastest(mut work: impl FnMut()) -> Duration {
    let mut times = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        work();
        began.elapsed()
    });
    let first = times.next().unwrap_or_default();
    times.fold(first, Duration::min)
}

fn speed(work: Work, library: &str, time: Duration) -> Speed {
    #[expect(clippy::cast_precision_loss, reason = "the size of a payload")]
    let megabytes = BYTES as f64 / 1e6;
    Speed { work, library: library.to_owned(), megabytes_per_second: megabytes / time.as_secs_f64() }
}

/// Measures hashing and decoding with the libraries that Python is linked to.
fn of_python(python: &Path) -> anyhow::Result<[Duration; 2]> {
    let script = format!(
        "import base64, binascii, hashlib, time\n\
         data = bytes(range(256)) * ({BYTES} // 256)\n\
         text = base64.b64encode(data)\n\
         def fastest(work):\n\
        \x20   times = []\n\
        \x20   for _ in range({ROUNDS}):\n\
        \x20       began = time.perf_counter(); work(); times.append(time.perf_counter() - began)\n\
        \x20   return min(times)\n\
         print(fastest(lambda: hashlib.sha256(data).digest()), fastest(lambda: binascii.a2b_base64(text)))\n"
    );
    let output = Command::new(python).arg("-c").arg(script).output().context("run Python")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<f64> = text.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    match times[..] {
        [hash, decode] => Ok([Duration::try_from_secs_f64(hash)?, Duration::try_from_secs_f64(decode)?]),
        _ => bail!("Python measured nothing: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_library_counts() {
        let of = |work, megabytes_per_second| Speed { work, library: String::new(), megabytes_per_second };
        let speeds = [of(Work::Hash, 100.0), of(Work::Hash, 200.0), of(Work::Decode, 1000.0)];
        assert_eq!(fastest_us(&speeds, Work::Hash, 4_000_000), Some(20_000.0));
        assert_eq!(fastest_us(&speeds, Work::Decode, 1_000_000), Some(1000.0));
        assert_eq!(fastest_us(&[], Work::Hash, 1), None);
    }
}
