//! One run of a record through the workflow. The first is started by ingest, every further one by a redrive.
//!
//! *Invariant:* the name of an execution, of a pending entry and of a pending marker are functions of the run, so
//! whatever starts or ends a run twice starts and ends the same one, and never another.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::record_id::{InvalidRecordId, RecordId};

/// The number of a record's first attempt.
pub const FIRST_ATTEMPT: u32 = 1;

/// A run. Its text form, `<messageID>` for the first and `<messageID>-<attempt>` for every further one, is the name of
/// its execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The record.
    pub record: RecordId,
    attempt: NonZeroU32,
}

impl Run {
    /// The record's run number `attempt`; attempts count from one.
    pub fn new(record: RecordId, attempt: u32) -> Self {
        Self { record, attempt: NonZeroU32::new(attempt).unwrap_or(NonZeroU32::MIN) }
    }

    /// The record's first run.
    pub fn first(record: RecordId) -> Self {
        Self::new(record, FIRST_ATTEMPT)
    }

    /// Its number, from one.
    pub fn attempt(self) -> u32 {
        self.attempt.get()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt() {
            FIRST_ATTEMPT => self.record.fmt(f),
            attempt => write!(f, "{}-{attempt}", self.record),
        }
    }
}

impl FromStr for Run {
    type Err = InvalidRecordId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ID_CHARS: usize = 36;
        let Some((id, attempt)) =
            text.split_at_checked(ID_CHARS).and_then(|(id, rest)| Some((id, rest.strip_prefix('-')?)))
        else {
            return text.parse().map(Self::first);
        };
        let run = attempt.parse().ok().map(|attempt: NonZeroU32| Ok(Self { record: id.parse()?, attempt }));
        // One run has one spelling: names compare as text.
        match run {
            Some(Ok(run)) if run.to_string() == text => Ok(run),
            Some(Err(error)) => Err(error),
            _ => text.parse().map(Self::first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019e1f4b-6c00-7abc-8def-0123456789ab";

    #[test]
    fn the_first_run_is_named_after_its_record_and_names_read_back() {
        let record: RecordId = ID.parse().unwrap();
        assert_eq!(Run::first(record).to_string(), ID);
        assert_eq!(Run::new(record, 12).to_string(), format!("{ID}-12"));
        for run in [Run::first(record), Run::new(record, 2), Run::new(record, 4711)] {
            assert_eq!(run.to_string().parse(), Ok(run));
        }
        for text in ["", ID.trim_end_matches('b'), &format!("{ID}-"), &format!("{ID}-1"), &format!("{ID}-02")]
        {
            assert!(text.parse::<Run>().is_err(), "{text}");
        }
    }
}
