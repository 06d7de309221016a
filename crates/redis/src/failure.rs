//! What the failure of one conversation with one node calls for.

use custody_core::error::StageError;
use redis::RedisError;

/// The failure of one conversation.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The slot belongs to the node at this address (`MOVED`).
    Moved { to: String, error: RedisError },
    /// The slot is being imported by the node at this address, which has the key or takes it (`ASK`).
    Ask { to: String, error: RedisError },
    /// The node or the cluster cannot answer now: `TRYAGAIN`, `CLUSTERDOWN`, `LOADING`, `READONLY`, or no connection.
    Later(RedisError),
    /// The node does not answer at all.
    Hung(RedisError),
    /// Puts to this node are paused, and why.
    Paused(String),
    /// The server refused the command as such: out of memory, not permitted.
    Refused(RedisError),
    /// The configuration is not usable, or the credentials cannot be had.
    Unusable(StageError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let target = || error.redirect_node().map(|(address, _)| address.to_owned());
        match error.code() {
            Some("MOVED") if let Some(to) = target() => Self::Moved { to, error },
            Some("ASK") if let Some(to) = target() => Self::Ask { to, error },
            Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "MOVED" | "ASK") => {
                Self::Later(error)
            }
            Some(_) => Self::Refused(error),
            None if error.is_timeout() => Self::Hung(error),
            None => Self::Later(error),
        }
    }
}

/// Whether every answer of a conversation was read: it succeeded, or the server refused it. A node that became a replica
/// (`READONLY`) is left.
pub(crate) fn is_complete<T>(result: &Result<T, RedisError>) -> bool {
    result.as_ref().err().is_none_or(|error| error.code().is_some_and(|code| code != "READONLY"))
}

impl Failure {
    /// The failure as the cause of a stage's error.
    pub(crate) fn into_cause(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Moved { error, .. }
            | Self::Ask { error, .. }
            | Self::Later(error)
            | Self::Hung(error)
            | Self::Refused(error) => error.into(),
            Self::Paused(why) => why.into(),
            Self::Unusable(error) => error.into(),
        }
    }
}
