//! The payload cache on a Valkey or Redis cluster: one key per record, `rec:<messageID>`, spread over all hash slots.
//!
//! A call goes to the primary of the key's slot, over the one kind of connection that there is (`bulk`), and follows the
//! cluster: `MOVED` and `ASK`, a failover, a restarted or emptied cluster, shards that are added while it runs.
//!
//! The cluster client of the `redis` crate is not used: it copies a payload three times, and beside it this module would
//! need a second set of connections and a second view of the topology for the one command that carries a payload. What
//! is left of a cluster client for six single-key commands is small: `topology` (who owns a slot) and `routing` (what to
//! do about an answer). The parser of answers is the crate's.
//!
//! *Invariants:* a connection whose conversation was not completed is never used again. `None` and `false` are reported
//! only after a second node has confirmed that the node asked owns the slot. No error shows a password.

mod breaker;
mod bulk;
mod cluster;
mod connection;
mod credentials;
mod failure;
mod node;
mod payload;
mod payload_cache;
mod probe;
mod routing;
mod settings;
mod slot;
mod topology;

pub use self::{
    connection::{ClusterConnection, Tls},
    credentials::{CredentialSource, Credentials},
    payload_cache::ClusterCache,
    settings::{CacheSettings, Level},
};
