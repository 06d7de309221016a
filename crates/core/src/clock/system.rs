//! The clock of a deployed function.

use super::{Clock, Timestamp};

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "only this `Clock` reads the system time")]
    fn now(&self) -> Timestamp {
        let unix_ms = jiff::Timestamp::now().as_millisecond();
        Timestamp::from_unix_ms(unix_ms).expect("the system clock is between 1970 and 9999")
    }
}
