//! The owners of the hash slots, as a node reports them (`CLUSTER SLOTS`).

use std::{collections::BTreeSet, fmt};

use redis::{RedisResult, Value};

use crate::bulk::unexpected;

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Returns the address in a `MOVED` or `ASK` answer of the node at `asked`. A node that does not know its own host
    /// name sends an empty host or `?`. Both mean the host at which that node was asked.
    pub(crate) fn in_redirect(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: host_or_asked(host, asked), port: port.parse().ok()? })
    }
}

fn host_or_asked(host: &str, asked: &Address) -> String {
    if matches!(host, "" | "?") { asked.host.clone() } else { host.to_owned() }
}

/// The owner of each slot, and the addresses of all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    ranges: Vec<Range>,
    nodes: BTreeSet<Address>,
}

#[derive(Clone, Debug)]
struct Range {
    first: u16,
    last: u16,
    primary: Address,
}

impl Topology {
    /// Parses the topology that the node at `asked` reports.
    pub(crate) fn read(answer: &Value, asked: &Address) -> RedisResult<Self> {
        let read = |entry: &Value| -> Option<(Range, Vec<Address>)> {
            let Value::Array(parts) = entry else { return None };
            let [Value::Int(first), Value::Int(last), nodes @ ..] = parts.as_slice() else { return None };
            let nodes: Vec<Address> =
                nodes.iter().map(|node| read_node(node, asked)).collect::<Option<_>>()?;
            let primary = nodes.first()?.clone();
            let range =
                Range { first: u16::try_from(*first).ok()?, last: u16::try_from(*last).ok()?, primary };
            Some((range, nodes))
        };
        let Value::Array(entries) = answer else { return Err(unexpected(std::slice::from_ref(answer))) };
        let mut topology = Self::default();
        for entry in entries {
            let (range, nodes) = read(entry).ok_or_else(|| unexpected(std::slice::from_ref(entry)))?;
            topology.ranges.push(range);
            topology.nodes.extend(nodes);
        }
        Ok(topology)
    }

    /// Returns whether no slot has an owner. A node that belongs to no cluster reports such a topology.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the primary that owns a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        self.ranges
            .iter()
            .find(|range| (range.first..=range.last).contains(&slot))
            .map(|range| &range.primary)
    }

    /// Records that a slot has another owner. The last recorded owner counts until the next topology is read.
    pub(crate) fn note_owner(&mut self, slot: u16, owner: Address) {
        self.ranges.retain(|range| (range.first, range.last) != (slot, slot));
        self.nodes.insert(owner.clone());
        self.ranges.insert(0, Range { first: slot, last: slot, primary: owner });
    }

    /// Returns the addresses of all nodes, primaries and replicas.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Address> {
        self.nodes.iter()
    }
}

/// Parses one node: its preferred host, its port, its id, and a list of further names (`ip`, `hostname`).
fn read_node(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), more @ ..] = parts.as_slice() else { return None };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let host = text(host).unwrap_or_default();
    // A node that prefers its host name but has none sends `?`. Its IP address is among the further names.
    let ip = || match more.get(1) {
        Some(Value::Array(names)) => names
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some("ip"))
            .and_then(|pair| text(&pair[1])),
        _ => None,
    };
    let host = if host == "?" { ip().unwrap_or_default() } else { host };
    Some(Address { host: host_or_asked(&host, asked), port: u16::try_from(*port).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Address {
        Address { host: "seed".to_owned(), port: 7000 }
    }

    fn node(host: Value, port: i64, names: Vec<Value>) -> Value {
        Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(names)])
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn the_owner_of_a_slot_is_the_first_node_of_its_range() {
        let range = |first, last, nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
        };
        let answer = Value::Array(vec![
            range(0, 99, vec![node(bulk("one"), 1, vec![]), node(bulk("replica"), 2, vec![])]),
            range(100, 199, vec![node(bulk(""), 3, vec![])]),
            range(200, 299, vec![node(Value::Nil, 4, vec![])]),
            range(300, 399, vec![node(bulk("?"), 5, vec![bulk("ip"), bulk("10.0.0.5")])]),
        ]);
        let mut topology = Topology::read(&answer, &asked()).unwrap();
        for (slot, owner) in
            [(0, "one:1"), (99, "one:1"), (100, "seed:3"), (250, "seed:4"), (300, "10.0.0.5:5")]
        {
            assert_eq!(topology.owner(slot).unwrap().to_string(), owner, "{slot}");
        }
        assert_eq!(topology.owner(400), None, "this slot has no owner");
        assert_eq!(topology.nodes().count(), 5, "replicas are nodes too");

        topology.note_owner(50, asked());
        assert_eq!(topology.owner(50), Some(&asked()));
        assert_eq!(topology.owner(51).unwrap().to_string(), "one:1");
        assert!(Topology::read(&Value::Array(vec![]), &asked()).unwrap().is_empty());
        assert!(Topology::read(&Value::Nil, &asked()).is_err());
    }

    #[test]
    fn a_redirect_without_host_means_the_host_that_was_asked() {
        for (text, address) in [
            ("10.0.0.1:6379", "10.0.0.1:6379"),
            (":7001", "seed:7001"),
            ("?:7001", "seed:7001"),
            ("::1:7001", "::1:7001"),
        ] {
            assert_eq!(Address::in_redirect(text, &asked()).unwrap().to_string(), address);
        }
        assert_eq!(Address::in_redirect("nowhere", &asked()), None);
    }
}
