//! How the cache is used: the level of durability, and the time limits.

use std::time::Duration;

use custody_core::receipt::Durability;

/// What makes a payload durable once the primary has taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The primary's answer itself: it comes after the write is in the transaction log (`Durability: sync`).
    Sync,
    /// The confirmation of so many replicas (`WAIT`). With 0, the primary's answer alone; for tests.
    Replicas(u32),
}

impl Level {
    /// The durability that a receipt reports.
    pub const fn durability(self) -> Durability {
        match self {
            Self::Sync => Durability::Durable,
            Self::Replicas(_) => Durability::Replicated,
        }
    }

    /// How many replicas must confirm a write.
    pub(crate) const fn replicas(self) -> u32 {
        match self {
            Self::Sync => 0,
            Self::Replicas(wanted) => wanted,
        }
    }
}

/// How the cache is used.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// What makes a payload durable.
    pub level: Level,
    /// Whether the cache takes new payloads. A cache that is to be replaced takes none, and drains.
    pub admits: bool,
    /// How long replicas may take to confirm a payload.
    pub replication_timeout: Duration,
    /// How long a payload lives that was never persisted.
    pub time_to_live: Duration,
    /// The time of one call, everything that it takes together. Ingest turns to the archive after that.
    pub call_limit: Duration,
    /// How long a connection may take, with TLS and authentication.
    pub connect_limit: Duration,
    /// How long a server may take to accept the next piece of a command, or to give the next piece of an answer.
    pub stall_limit: Duration,
    /// How long puts to a node fail at once after one has met a node that hangs or lacks replicas.
    pub breaker_pause: Duration,
}

impl CacheSettings {
    /// The settings of a cache at this level.
    pub const fn new(level: Level) -> Self {
        Self {
            level,
            admits: true,
            replication_timeout: Duration::from_millis(1500),
            time_to_live: Duration::from_hours(7 * 24),
            call_limit: Duration::from_secs(4),
            connect_limit: Duration::from_secs(1),
            stall_limit: Duration::from_secs(1),
            breaker_pause: Duration::from_secs(2),
        }
    }
}
