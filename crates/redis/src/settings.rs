//! The settings of the cache: the level of durability, and the time limits.

use std::time::Duration;

use custody_core::receipt::Durability;

/// The condition under which a payload counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The primary has answered. It answers only after the write is in the transaction log (`Durability: sync`).
    Sync,
    /// This number of replicas has confirmed the payload (`WAIT`). With 0, the answer of the primary is enough; for
    /// tests only.
    Replicas(u32),
}

impl Level {
    /// Returns the durability that a receipt reports at this level.
    pub const fn durability(self) -> Durability {
        match self {
            Self::Sync => Durability::Durable,
            Self::Replicas(_) => Durability::Replicated,
        }
    }

    /// Returns the number of replicas that must confirm a write.
    pub(crate) const fn replicas(self) -> u32 {
        match self {
            Self::Sync => 0,
            Self::Replicas(wanted) => wanted,
        }
    }
}

/// The settings of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// The level of durability.
    pub level: Level,
    /// Whether the cache accepts new payloads. A cache that is about to be replaced accepts none, and drains.
    pub accepts_payloads: bool,
    /// The time limit for replicas to confirm a payload.
    pub replication_timeout: Duration,
    /// The time after which a payload expires if it was never persisted.
    pub time_to_live: Duration,
    /// The time limit of one call, including all its retries and redirects. When a `put` reaches this limit, ingest
    /// stores the payload in the archive.
    pub call_limit: Duration,
    /// The time limit for opening a connection, including TLS and authentication.
    pub connect_limit: Duration,
    /// The time limit for a server to accept the next piece of a command, or to send the next piece of an answer.
    pub stall_limit: Duration,
    /// The time for which every `put` to a node fails at once, after a `put` found that the node hangs or lacks
    /// replicas.
    pub breaker_pause: Duration,
}

impl CacheSettings {
    /// Returns the default settings of a cache at this level.
    pub const fn new(level: Level) -> Self {
        Self {
            level,
            accepts_payloads: true,
            replication_timeout: Duration::from_millis(1500),
            time_to_live: Duration::from_hours(7 * 24),
            call_limit: Duration::from_secs(4),
            connect_limit: Duration::from_secs(1),
            stall_limit: Duration::from_secs(1),
            breaker_pause: Duration::from_secs(2),
        }
    }
}
