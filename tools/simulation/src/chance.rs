//! Random values that derive from a schedule's seed.

use rand::{Rng as _, rngs::SmallRng};

/// Draws random values from a seeded generator.
pub(crate) trait Chance {
    /// Returns a number below `limit`, or zero if `limit` is zero.
    fn below(&mut self, limit: u64) -> u64;

    /// Returns `true` with this probability in percent.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of these values. There must be at least one.
    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        let at = self.below(values.len() as u64);
        values[usize::try_from(at).unwrap_or(0)].clone()
    }

    /// Returns a time between these two, in milliseconds.
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
