//! Counts how often each fault and each situation occurred. What never occurs is never tested.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

/// Counts by group and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<(&'static str, String), u64>);

impl Counts {
    pub(crate) fn add(&mut self, group: &'static str, name: impl Into<String>) {
        *self.0.entry((group, name.into())).or_default() += 1;
    }

    /// Adds the counts of another schedule.
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    pub(crate) fn of(&self, group: &str) -> u64 {
        self.0.iter().filter(|((known, _), _)| *known == group).map(|(_, count)| count).sum()
    }

    pub(crate) fn get(&self, group: &'static str, name: &str) -> u64 {
        self.0.get(&(group, name.to_owned())).copied().unwrap_or(0)
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((group, name), count) in &self.0 {
            writeln!(f, "{count:>12}  {group}: {name}")?;
        }
        Ok(())
    }
}
