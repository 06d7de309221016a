//! The nodes of the cluster, and the last known topology.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{ErrorKind, RedisError};
use tokio::time::timeout;

use crate::{
    breaker::PauseReason,
    connection::{ClusterConnection, Connector},
    credentials::CredentialSource,
    failure::Failure,
    node::Node,
    probe::ReadTopology,
    settings::CacheSettings,
    topology::{Address, Topology},
};

/// The time that a node has to report the topology before the next node is asked as well.
const HEDGE: Duration = Duration::from_millis(200);

/// The known nodes of the cluster, and the last known topology.
#[derive(Debug)]
pub(crate) struct Cluster<C> {
    /// The address that the cluster is found at: the configuration endpoint, or any node.
    pub(crate) seed: Address,
    pub(crate) connector: Connector<C>,
    pub(crate) settings: CacheSettings,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
struct View {
    nodes: BTreeMap<Address, Arc<Node>>,
    topology: Topology,
    /// Whether the topology must be read again before it is used, because an answer showed that it is out of date.
    is_stale: bool,
}

impl<C: CredentialSource> Cluster<C> {
    /// Creates a cluster of which only the seed is known.
    pub(crate) fn new(connection: ClusterConnection<C>, settings: CacheSettings) -> Self {
        let ClusterConnection { host, port, tls, credentials } = connection;
        let connector = Connector::new(tls, credentials, settings);
        Self { seed: Address { host, port }, connector, settings, view: Mutex::default() }
    }

    /// Returns the primary that owns a slot, according to the last known topology. A topology that is out of date is
    /// read again first.
    pub(crate) async fn owner(&self, slot: u16) -> Result<Arc<Node>, Failure> {
        let is_stale = {
            let view = self.view();
            view.is_stale || view.topology.is_empty()
        };
        let refreshed = if is_stale { self.refresh(None).await } else { Ok(()) };
        let owner = self.view().topology.owner(slot).cloned();
        match (owner, refreshed) {
            (Some(owner), _) => Ok(self.node(&owner)),
            (None, Err(failure)) => Err(failure),
            (None, Ok(())) => Err(not_ready(format!("no node owns slot {slot}"))),
        }
    }

    /// Returns the node at an address, and creates it if it is not known yet.
    pub(crate) fn node(&self, address: &Address) -> Arc<Node> {
        let mut view = self.view();
        let node = view.nodes.entry(address.clone()).or_insert_with(|| Node::new(address.clone()));
        Arc::clone(node)
    }

    /// Records that a slot has moved to another owner. Other slots may have moved with it, so the topology counts as
    /// out of date.
    pub(crate) fn note_owner(&self, slot: u16, owner: &Address) {
        let mut view = self.view();
        view.topology.note_owner(slot, owner.clone());
        view.is_stale = true;
    }

    /// Reads the topology again. The node at `avoid` is asked last, and only if it does not hang. If the read fails,
    /// the old topology remains and counts as out of date.
    pub(crate) async fn refresh(&self, avoid: Option<&Address>) -> Result<(), Failure> {
        self.view().is_stale = true;
        let mut candidates = self.others(avoid);
        if let Some(avoided) = avoid.map(|address| self.node(address)).filter(|node| !node.breaker.is_hung())
        {
            candidates.push(avoided);
        }
        let topology = self.ask_for_topology(candidates).await?;
        let mut view = self.view();
        view.nodes.retain(|address, _| *address == self.seed || topology.nodes().any(|node| node == address));
        view.topology = topology;
        view.is_stale = false;
        Ok(())
    }

    /// Returns whether another node confirms that `owner` owns the slot. If there is no other node, `owner` needs no
    /// confirmation.
    ///
    /// A primary that was disconnected or stopped may have been replaced by its replica. For a moment it still answers
    /// as if it owned its slots, and it does not have the payloads that were stored since.
    pub(crate) async fn confirms_owner(&self, slot: u16, owner: &Address) -> Result<bool, Failure> {
        let is_alone = self.view().topology.nodes().all(|node| node == owner);
        if is_alone {
            return Ok(true);
        }
        let topology = self.ask_for_topology(self.others(Some(owner))).await?;
        let confirmed = topology.owner(slot) == Some(owner);
        let mut view = self.view();
        view.topology = topology;
        view.is_stale = !confirmed;
        Ok(confirmed)
    }

    /// Returns every known node except `avoid` and the nodes that hang. The seed is the last one.
    fn others(&self, avoid: Option<&Address>) -> Vec<Arc<Node>> {
        let addresses: Vec<Address> = {
            let view = self.view();
            let nodes = view.topology.nodes().filter(|node| **node != self.seed);
            nodes.chain([&self.seed]).filter(|node| avoid != Some(*node)).cloned().collect()
        };
        let nodes = addresses.iter().map(|address| self.node(address));
        nodes.filter(|node| !node.breaker.is_hung()).collect()
    }

    /// Returns the first topology that one of these nodes reports. The nodes are asked one after another: the next one
    /// as soon as one fails or is slow.
    async fn ask_for_topology(&self, candidates: Vec<Arc<Node>>) -> Result<Topology, Failure> {
        let mut failure = not_ready("no node can be asked: all of them hung a moment ago".to_owned());
        let mut candidates = candidates.into_iter();
        let mut asked = FuturesUnordered::new();
        loop {
            match candidates.next() {
                Some(node) => asked.push(async move { self.topology_of(&node).await }),
                None if asked.is_empty() => return Err(failure),
                None => {}
            }
            let patience = if candidates.len() > 0 { HEDGE } else { self.settings.call_limit };
            match timeout(patience, asked.next()).await {
                Ok(Some(Ok(topology))) if topology.is_empty() => {
                    failure = not_ready("a node reports that no slot has an owner".to_owned());
                }
                Ok(Some(Ok(topology))) => return Ok(topology),
                // Another node would not help: all nodes use the same configuration.
                Ok(Some(Err(unusable @ Failure::Unusable(_)))) => return Err(unusable),
                Ok(Some(Err(error))) => failure = error,
                Ok(None) | Err(_) => {}
            }
        }
    }

    async fn topology_of(&self, node: &Node) -> Result<Topology, Failure> {
        let topology = node.run_exchange(&self.connector, &ReadTopology(&node.address), false).await;
        if let Err(Failure::TimedOut(_)) = &topology {
            node.breaker.open(PauseReason::TimedOut, self.settings.breaker_pause);
        }
        topology
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a failure after which a later try may succeed.
pub(crate) fn not_ready(why: String) -> Failure {
    Failure::Transient(RedisError::from((
        ErrorKind::ClusterConnectionNotFound,
        "the cluster is not ready",
        why,
    )))
}
