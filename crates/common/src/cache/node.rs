//! One node of the cluster, with its idle connections and its breaker.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use redis::RedisResult;

use super::{
    breaker::Breaker,
    bulk::BulkConnection,
    connection::Connector,
    credentials::CredentialSource,
    failure::{Failure, is_complete},
    topology::Address,
};

/// Commands and their answers on one connection. It may be held again, also on another connection.
pub(super) trait Conversation: Sync {
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

/// How many connections to a node are kept. A function handles one request at a time and needs one; more are made while
/// calls overlap.
const IDLE: usize = 4;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) breaker: Breaker,
    idle: Mutex<Vec<BulkConnection>>,
}

impl Node {
    /// The node at `address`, without a connection.
    pub(super) fn new(address: Address) -> Arc<Self> {
        Arc::new(Self { address, breaker: Breaker::default(), idle: Mutex::default() })
    }

    /// Holds a conversation on an idle connection, or else on a new one. An idle connection may have died while the function
    /// slept: then the conversation is held once more on a new one.
    ///
    /// The connection is taken out, and put back only after a complete conversation: a caller may drop this future, or a
    /// time-out end it, with half a payload sent.
    pub(super) async fn converse<T: Conversation>(
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
                Err(error) if error.code().is_none_or(|code| code == "READONLY") && !error.is_timeout() => {}
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

    fn put_back(&self, connection: BulkConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
