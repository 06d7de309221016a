//! The delay before an automatic redrive.

use std::time::Duration;

use crate::{attempt::Attempt, digest::Sha256};

/// The longest delay that SQS supports for a message. Source: Amazon SQS quotas, "Delay queue".
pub const MAX_DELAY: Duration = Duration::from_mins(15);

const BASE: Duration = Duration::from_secs(30);

/// Returns the delay before the attempt after `failed`: exponential with full jitter, from zero to 30 s × 2^(attempt −
/// 1), at most [`MAX_DELAY`]. The jitter is computed from the attempt's name, so that repeated computations have the
/// same result, while records that failed together are redriven at different times.
pub fn delay_after(failed: Attempt) -> Duration {
    let doublings = failed.number().saturating_sub(1).min(16);
    let limit = BASE.saturating_mul(1 << doublings).min(MAX_DELAY);
    let share = u32::from(Sha256::of(failed.to_string().as_bytes()).first_byte());
    limit * share / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, record_id::RecordId};

    #[test]
    fn delays_spread_and_double_up_to_the_limit_of_the_queue() {
        let now = Timestamp::from_unix_ms(1_795_213_260_000).unwrap();
        for (attempt, limit) in [(1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (u32::MAX, 900)] {
            let delays: Vec<_> = (0..500)
                .map(|_| delay_after(Attempt::new(RecordId::mint(now), attempt)).as_secs_f64())
                .collect();
            assert!(delays.iter().all(|delay| *delay <= f64::from(limit)), "{attempt}");
            let mean = delays.iter().sum::<f64>() / 500.0 / f64::from(limit);
            assert!((0.35..0.65).contains(&mean), "{attempt}: {mean}");
        }
    }
}
