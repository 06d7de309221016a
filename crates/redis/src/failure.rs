//! Failures of one exchange with one node, grouped by how the router reacts to them.

use custody_core::error::StageError;
use redis::RedisError;

/// The reason why one exchange with one node failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The node at address `to` owns the slot (`MOVED`).
    Moved { to: String, error: RedisError },
    /// The slot is being moved to the node at address `to`, and that node has the key or accepts it (`ASK`).
    Ask { to: String, error: RedisError },
    /// The node or the cluster cannot answer now, and a later try may succeed: `TRYAGAIN`, `CLUSTERDOWN`, `LOADING`,
    /// `READONLY`, or a failed connection.
    Transient(RedisError),
    /// The node did not answer within the time limit.
    TimedOut(RedisError),
    /// The breaker of the node refuses payloads. The text names the node and the reason.
    Paused(String),
    /// The server rejected the command, for example because it is out of memory or because the user lacks the
    /// permission.
    Refused(RedisError),
    /// The configuration is not usable, or the credentials cannot be read.
    Unusable(StageError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let target = || error.redirect_node().map(|(address, _)| address.to_owned());
        match error.code() {
            Some("MOVED") if let Some(to) = target() => Self::Moved { to, error },
            Some("ASK") if let Some(to) = target() => Self::Ask { to, error },
            Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "MOVED" | "ASK") => {
                Self::Transient(error)
            }
            Some(_) => Self::Refused(error),
            None if error.is_timeout() => Self::TimedOut(error),
            None => Self::Transient(error),
        }
    }
}

/// Returns whether every answer of an exchange was read: the exchange succeeded, or the server answered with an
/// error. `READONLY` counts as incomplete, so that the caller drops its connections to a node that became a replica.
pub(crate) fn is_complete<T>(result: &Result<T, RedisError>) -> bool {
    result.as_ref().err().is_none_or(|error| error.code().is_some_and(|code| code != "READONLY"))
}

impl Failure {
    /// Converts the failure into the cause of a stage's error.
    pub(crate) fn into_cause(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Moved { error, .. }
            | Self::Ask { error, .. }
            | Self::Transient(error)
            | Self::TimedOut(error)
            | Self::Refused(error) => error.into(),
            Self::Paused(why) => why.into(),
            Self::Unusable(error) => error.into(),
        }
    }
}
