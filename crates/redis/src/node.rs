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

/// Commands and their answers on one connection. It may be held again, also on another connection.
pub(crate) trait Conversation: Sync {
    /// The outcome.
    type Answer: Send;

    /// Whether a breaker decides if it may be held: it sends a payload.
    const SENDS_PAYLOAD: bool = false;

    /// Holds it. With `asking`, the node is importing the slot.
    fn hold(
        &self,
        connection: &mut BulkConnection,
        asking: bool,
    ) -> impl Future<Output = RedisResult<Self::Answer>> + Send;
}

/// How many connections to a node are kept: as many as a process may have requests under way, each on a connection of its own.
const IDLE: usize = 64;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) breaker: Breaker,
    idle: Mutex<Vec<BulkConnection>>,
}

impl Node {
    /// The node at `address`, without a connection.
    pub(crate) fn new(address: Address) -> Arc<Self> {
        Arc::new(Self { address, breaker: Breaker::default(), idle: Mutex::default() })
    }

    /// Holds a conversation on an idle connection, or else on a new one. An idle connection may have died while the function
    /// slept, with or without a word: then the conversation is held once more on a new one, and only that decides whether
    /// the node hangs.
    ///
    /// The connection is taken out, and put back only after a complete conversation: a caller may drop this future, or a
    /// time-out end it, with half a payload sent.
    pub(crate) async fn converse<T: Conversation>(
        &self,
        connector: &Connector<impl CredentialSource>,
        conversation: &T,
        asking: bool,
    ) -> Result<T::Answer, Failure> {
        if let Some(mut connection) = self.take_idle() {
            let result = conversation.hold(&mut connection, asking).await;
            if is_complete(&result) {
                self.put_back(connection);
            } else {
                // The other idle ones are as old.
                self.forget_idle();
            }
            match result {
                Err(error) if error.code().is_none_or(|code| code == "READONLY") => {}
                result => return result.map_err(Into::into),
            }
        }
        let mut connection = connector.connect(&self.address).await?;
        let result = conversation.hold(&mut connection, asking).await;
        if is_complete(&result) {
            self.put_back(connection);
        }
        result.map_err(Into::into)
    }

    fn take_idle(&self) -> Option<BulkConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a connection for the next conversation.
    pub(crate) fn put_back(&self, connection: BulkConnection) {
        if connection.is_taken() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    fn forget_idle(&self) {
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

    /// A conversation that ends like this; `None` for one that does not end.
    struct Ending(Option<fn() -> RedisResult<()>>);

    impl Conversation for Ending {
        type Answer = ();

        async fn hold(&self, _: &mut BulkConnection, _: bool) -> RedisResult<()> {
            match self.0 {
                Some(ending) => ending(),
                None => pending().await,
            }
        }
    }

    /// Whether a connection is kept after a conversation on it. Nobody listens at the node's address.
    async fn is_kept_after(ending: Option<fn() -> RedisResult<()>>) -> bool {
        let settings = CacheSettings::new(Level::Sync);
        let node = Node::new(Address { host: "127.0.0.1".to_owned(), port: 0 });
        let (stream, _other_end) = tokio::io::duplex(64);
        node.put_back(BulkConnection::new(Box::new(stream), settings.stall_limit));
        let connector = Connector::new(Tls::Off, Nobody, settings);
        let conversation = Ending(ending);
        let call = node.converse(&connector, &conversation, false);
        drop(tokio::time::timeout(Duration::from_millis(1), call).await);
        node.take_idle().is_some()
    }

    #[tokio::test]
    async fn a_connection_is_kept_only_after_a_complete_conversation() {
        let refused = || Err(RedisError::from((ErrorKind::Extension, "OOM", "full".to_owned())));
        assert!(is_kept_after(Some(|| Ok(()))).await, "after an answer");
        assert!(!is_kept_after(None).await, "after the caller gave up");
        assert!(!is_kept_after(Some(|| Err(timed_out()))).await, "after a time-out");
        assert!(!is_kept_after(Some(|| Err(io::Error::other("reset").into()))).await, "after a failure");
        assert!(!is_kept_after(Some(refused)).await, "after an answer that is none of the server's");
        let refused = || redis::parse_redis_value(b"-OOM full\r\n")?.extract_error().map(drop);
        assert!(is_kept_after(Some(refused)).await, "after a refusal by the server");
        let replica = || redis::parse_redis_value(b"-READONLY replica\r\n")?.extract_error().map(drop);
        assert!(!is_kept_after(Some(replica)).await, "after the node became a replica");
    }
}
