//! An attempt: one try of a record's workflow. Acceptance makes the first attempt, and each redrive makes a further
//! one.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::record_id::{InvalidRecordId, RecordId};

/// The number of a record's first attempt.
pub const FIRST_ATTEMPT: u32 = 1;

/// The number of an attempt's first start.
pub const FIRST_START: u32 = 1;

/// An attempt of a record. Its text form is `<messageID>-<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    pub record: RecordId,
    number: NonZeroU32,
}

impl Attempt {
    /// Creates the record's attempt of this number. Attempts are numbered from one.
    pub fn new(record: RecordId, number: u32) -> Self {
        Self { record, number: NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN) }
    }

    /// Returns the record's first attempt.
    pub fn first(record: RecordId) -> Self {
        Self::new(record, FIRST_ATTEMPT)
    }

    /// Returns the attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { record: self.record, number: self.number.saturating_add(1) }
    }

    /// Returns the attempt's number, which is at least one.
    pub fn number(self) -> u32 {
        self.number.get()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.record, self.number)
    }
}

impl FromStr for Attempt {
    type Err = InvalidRecordId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ID_CHARS: usize = 36;
        let (id, rest) = text.split_at_checked(ID_CHARS).unwrap_or((text, ""));
        let record = id.parse()?;
        let number = rest.strip_prefix('-').and_then(|number| number.parse().ok());
        // An attempt has exactly one spelling, because names are compared as text.
        number
            .map(|number| Self { record, number })
            .filter(|attempt| attempt.to_string() == text)
            .ok_or_else(|| InvalidRecordId::of(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019e1f4b-6c00-7abc-8def-0123456789ab";

    #[test]
    fn an_attempt_is_named_after_its_record_and_number_and_reads_back() {
        let record: RecordId = ID.parse().unwrap();
        assert_eq!(Attempt::first(record).to_string(), format!("{ID}-1"));
        assert_eq!(Attempt::first(record).next(), Attempt::new(record, 2));
        for attempt in [Attempt::first(record), Attempt::new(record, 2), Attempt::new(record, 4711)] {
            assert_eq!(attempt.to_string().parse(), Ok(attempt));
        }
        for text in
            ["", ID, ID.trim_end_matches('b'), &format!("{ID}-"), &format!("{ID}-0"), &format!("{ID}-02")]
        {
            assert!(text.parse::<Attempt>().is_err(), "{text}");
        }
    }
}
