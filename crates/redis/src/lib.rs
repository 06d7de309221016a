//! The payload cache on a Valkey or Redis cluster. Each record has one key, `rec:<messageID>`. The keys are spread over
//! all hash slots.
//!
//! A call goes to the primary node that owns the key's slot. All commands use the same kind of connection (`bulk`). The
//! cache follows every change of the cluster: `MOVED` and `ASK` redirects, a failover, a restarted or emptied cluster,
//! and shards that are added while the program runs.
//!
//! This module does not use the cluster client of the `redis` crate. That client copies a payload three times. For the
//! one command that carries a payload, this module would then need a second set of connections and a second view of the
//! topology beside the client's. The remaining work of a cluster client for six single-key commands is small:
//! `topology` finds the owner of a slot, and `routing` reacts to redirects and failures. The parser of the `redis`
//! crate parses the answers.
//!
//! *Invariants:* The cache never uses a connection again after an incomplete exchange. It reports `None` or `false`
//! only after a second node has confirmed that the node that answered owns the slot; in a cluster of one node, no
//! confirmation is needed. No error shows a password.

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
