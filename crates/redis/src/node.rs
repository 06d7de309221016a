//! One node of the cluster, with its idle connections and its breaker.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use redis::RedisResult;

use crate::{
    breaker::Breaker,
    bulk::BulkConnection,
    connection::Connector,
    credentials::CredentialSource,
    failure::{Failure, is_complete},
    topology::Address,
};

/// Commands and their answers on one connection. An exchange may be repeated, also on another connection.
pub(crate) trait Exchange: Sync {
    /// The result of the exchange.
    type Answer: Send;

    /// Whether the exchange sends a payload. If so, the node's breaker decides whether it may start.
    const SENDS_PAYLOAD: bool = false;

    /// Runs the exchange on a connection. `asking` means that the node is still importing the slot, so each command
    /// about a key must follow an `ASKING` command.
    fn run(
        &self,
        connection: &mut BulkConnection,
        asking: bool,
    ) -> impl Future<Output = RedisResult<Self::Answer>> + Send;
}

/// The largest number of idle connections to a node: as many as a process may have requests in progress, because each
/// request has a connection of its own.
const IDLE: usize = 64;

/// A node of the cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) breaker: Breaker,
    idle: Mutex<Vec<BulkConnection>>,
}

impl Node {
    /// Creates the node at `address`. No connection is opened yet.
    pub(crate) fn new(address: Address) -> Arc<Self> {
        Arc::new(Self { address, breaker: Breaker::default(), idle: Mutex::default() })
    }

    /// Runs an exchange on an idle connection, or on a new connection if there is none. While the function was
    /// frozen, an idle connection may have died, with or without a notice from the network. The exchange is then
    /// repeated on a new connection, and only the result of that second try decides whether the node hangs.
    ///
    /// The connection is removed from the idle list before the exchange, and put back only after a complete
    /// exchange. The caller may drop this future, or a time-out may end it, when only half of a payload was sent.
    pub(crate) async fn run_exchange<T: Exchange>(
        &self,
        connector: &Connector<impl CredentialSource>,
        exchange: &T,
        asking: bool,
    ) -> Result<T::Answer, Failure> {
        if let Some(mut connection) = self.take_idle() {
            let result = exchange.run(&mut connection, asking).await;
            if is_complete(&result) {
                self.put_back(connection);
            } else {
                // The other idle connections are at least as old, so they may be dead too.
                self.close_idle_connections();
            }
            match result {
                Err(error) if error.code().is_none_or(|code| code == "READONLY") => {}
                result => return result.map_err(Into::into),
            }
        }
        let mut connection = connector.connect(&self.address).await?;
        let result = exchange.run(&mut connection, asking).await;
        if is_complete(&result) {
            self.put_back(connection);
        }
        result.map_err(Into::into)
    }

    fn take_idle(&self) -> Option<BulkConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Puts a connection into the idle list, for the next exchange.
    pub(crate) fn put_back(&self, connection: BulkConnection) {
        if connection.is_detached() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    fn close_idle_connections(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io, time::Duration};

    use custody_core::error::StageError;
    use redis::{ErrorKind, RedisError};

    use super::*;
    use crate::{CacheSettings, Credentials, Level, Tls, bulk::timed_out};

    struct Nobody;

    impl CredentialSource for Nobody {
        async fn credentials(&self) -> Result<Option<Credentials>, StageError> {
            Ok(None)
        }
    }

    /// An exchange with a fixed result. `None` makes an exchange that never ends.
    struct Ending(Option<fn() -> RedisResult<()>>);

    impl Exchange for Ending {
        type Answer = ();

        async fn run(&self, _: &mut BulkConnection, _: bool) -> RedisResult<()> {
            match self.0 {
                Some(ending) => ending(),
                None => pending().await,
            }
        }
    }

    /// Returns whether the idle list has the connection after an exchange on it. No server listens at the node's
    /// address.
    async fn is_kept_after(ending: Option<fn() -> RedisResult<()>>) -> bool {
        let settings = CacheSettings::new(Level::Sync);
        let node = Node::new(Address { host: "127.0.0.1".to_owned(), port: 0 });
        let (stream, _other_end) = tokio::io::duplex(64);
        node.put_back(BulkConnection::new(Box::new(stream), settings.stall_limit));
        let connector = Connector::new(Tls::Off, Nobody, settings);
        let exchange = Ending(ending);
        let call = node.run_exchange(&connector, &exchange, false);
        drop(tokio::time::timeout(Duration::from_millis(1), call).await);
        node.take_idle().is_some()
    }

    #[tokio::test]
    async fn a_connection_is_kept_only_after_a_complete_conversation() {
        let refused = || Err(RedisError::from((ErrorKind::Extension, "OOM", "full".to_owned())));
        assert!(is_kept_after(Some(|| Ok(()))).await, "after an answer");
        assert!(!is_kept_after(None).await, "after the caller dropped the call");
        assert!(!is_kept_after(Some(|| Err(timed_out()))).await, "after a time-out");
        assert!(!is_kept_after(Some(|| Err(io::Error::other("reset").into()))).await, "after a failure");
        assert!(!is_kept_after(Some(refused)).await, "after an error that the server did not send");
        let refused = || redis::parse_redis_value(b"-OOM full\r\n")?.extract_error().map(drop);
        assert!(is_kept_after(Some(refused)).await, "after a refusal by the server");
        let replica = || redis::parse_redis_value(b"-READONLY replica\r\n")?.extract_error().map(drop);
        assert!(!is_kept_after(Some(replica)).await, "after the node became a replica");
    }
}
