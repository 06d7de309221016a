//! Chance that comes from a schedule's seed.

use rand::{Rng as _, rngs::SmallRng};

/// Draws of a seeded generator.
pub(crate) trait Chance {
    /// A number below `limit`; zero where there is none.
    fn below(&mut self, limit: u64) -> u64;

    /// Whether a draw of this probability hits.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these values, of which there is one at least.
    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        let at = self.below(values.len() as u64);
        values[usize::try_from(at).unwrap_or(0)].clone()
    }

    /// A time between these two, in milliseconds.
    fn between(&mut self, from: i64, to: i64) -> i64 {
        let width = u64::try_from(to - from).unwrap_or(0);
        from.saturating_add_unsigned(self.below(width))
    }
}

impl Chance for SmallRng {
    fn below(&mut self, limit: u64) -> u64 {
        self.next_u64() % limit.max(1)
    }
}
