//! Tests of payloads while the cluster changes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use custody_core::{error::ErrorName, ports::PayloadCache, record_id::RecordId, testing::samples};
use custody_redis::{Level, Tls};
use custody_redis_cluster::admin::{Node, wait_until};
use redis::cmd;

use crate::fixture::{Cache, Fixture, put_until_ok, read_until_answered, settings};

const HALF: u16 = 8192;

/// Stores payloads before the cluster changes. On a busy machine, a replica may confirm later than a put waits.
async fn put_some(cache: &Cache, count: usize) -> Vec<RecordId> {
    let ids: Vec<RecordId> = (0..count).map(|_| samples::record_id()).collect();
    for id in &ids {
        put_until_ok(cache, *id).await;
    }
    ids
}

async fn expect_all(cache: &Cache, ids: &[RecordId]) {
    for id in ids {
        let read = read_until_answered(cache, *id).await;
        assert_eq!(read, Some(id.to_string().into_bytes()), "an acknowledged payload must not be lost");
    }
}

/// Makes a node forget all other nodes. It then never learns that a replica has taken over, and continues to serve its
/// slots.
fn isolate(fixture: &Fixture, number: usize) {
    let isolated = fixture.cluster.node(number);
    for other in fixture.cluster.nodes().filter(|node| node.port != isolated.port) {
        isolated.run::<()>(cmd("CLUSTER").arg("FORGET").arg(other.id().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn slots_that_have_moved_are_followed() {
    let fixture = Fixture::plain(2, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let ids = put_some(&cache, 40).await;
    fixture.cluster.move_slots(0, 1, 0..HALF).unwrap();
    for id in &ids {
        assert!(cache.payload(*id).await.unwrap().is_some(), "a moved slot must not make a read fail");
        cache.put(*id, id.to_string().into()).await.unwrap();
    }
    expect_all(&cache, &ids).await;
}

#[tokio::test]
async fn a_payload_of_a_migrating_slot_is_stored_and_found() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    let id = fixture.record_of(0);
    let (source, target) = (fixture.cluster.node(0), fixture.cluster.node(1));
    let set_slot = |node: &Node, how: &str, other: &str| {
        node.run::<()>(cmd("CLUSTER").arg("SETSLOT").arg(fixture.slot_of(id)).arg(how).arg(other)).unwrap();
    };
    set_slot(target, "IMPORTING", &source.id().unwrap());
    set_slot(source, "MIGRATING", &target.id().unwrap());

    assert_eq!(cache.payload(id).await.unwrap(), None, "neither node has the payload");
    assert!(!cache.persist(id).await.unwrap());
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    assert!(target.calls("asking").unwrap() > 0, "the source node must redirect the put to the target node");
    assert_eq!(cache.payload(id).await.unwrap().unwrap(), b"payload".as_slice());
    assert_eq!(cache.size(id).await.unwrap(), Some(7));
    assert!(cache.persist(id).await.unwrap());
    cache.unlink(id).await.unwrap();
    assert_eq!(cache.size(id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_added_under_load_loses_and_refuses_nothing() {
    let mut fixture = Fixture::plain(2, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let mut ids = put_some(&cache, 500).await;
    let added = fixture.cluster.add_primary().unwrap();
    let is_done = AtomicBool::new(false);
    let mut under_way = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            fixture.cluster.move_slots(0, added, 0..HALF / 2).unwrap();
            is_done.store(true, Ordering::Relaxed);
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while !is_done.load(Ordering::Relaxed) {
                    let id = samples::record_id();
                    cache
                        .put(id, id.to_string().into())
                        .await
                        .expect("one of the two nodes must accept the put");
                    ids.push(id);
                    let earlier = ids[under_way * 7 % ids.len()];
                    assert!(
                        cache.payload(earlier).await.unwrap().is_some(),
                        "an acknowledged payload must be readable"
                    );
                    under_way += 1;
                }
            });
        });
    });
    assert!(under_way > 0, "there must be puts while slots are moved");
    expect_all(&cache, &ids).await;
    let held: u64 = fixture.cluster.node(added).run(&cmd("DBSIZE")).unwrap();
    assert!(held > 0, "the new shard must contain payloads");
}

#[tokio::test]
async fn a_replica_that_takes_over_from_a_dead_primary_has_all_that_was_acknowledged() {
    let mut fixture = Fixture::encrypted(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    let mut ids = put_some(&cache, 40).await;
    fixture.cluster.kill(0).unwrap();
    fixture.cluster.take_over(fixture.cluster.replica_of(0)).unwrap();
    expect_all(&cache, &ids).await;
    // No put is confirmed before the shard has a replica again.
    fixture.cluster.restart(0).unwrap();
    for shard in [0, 1] {
        let id = fixture.record_of(shard);
        put_until_ok(&cache, id).await;
        ids.push(id);
    }
    expect_all(&cache, &ids).await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_left_for_the_replica_that_took_over() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Sync);
    let (id, during) = (fixture.record_of(0), fixture.record_of(0));
    // The open-source server has no transaction log, so this payload must be on the replica before it takes over.
    put_until_ok(&fixture.cache(Level::Replicas(1)), id).await;
    expect_all(&cache, &[id]).await;
    fixture.cluster.hang(0).unwrap();
    fixture.cluster.take_over(fixture.cluster.replica_of(0)).unwrap();
    cache
        .put(during, Bytes::from_static(b"payload"))
        .await
        .expect("the same call must store the payload on the new primary");
    assert!(cache.payload(id).await.unwrap().is_some());
    fixture.cluster.resume(0).unwrap();
    for _ in 0..20 {
        assert!(read_until_answered(&cache, during).await.is_some());
    }
}

#[tokio::test]
async fn absence_is_not_believed_from_a_replaced_primary() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Sync);
    let (known, unknown) = (fixture.record_of(0), fixture.record_of(0));
    put_until_ok(&cache, known).await;
    let replica = fixture.cluster.replica_of(0);
    isolate(&fixture, 0);
    fixture.cluster.take_over(replica).unwrap();
    let successor = fixture.cache_from(fixture.cluster.node(replica), Tls::Off, None, settings(Level::Sync));
    put_until_ok(&successor, unknown).await;
    let old: Option<String> = fixture.cluster.node(0).run(cmd("GET").arg(format!("rec:{unknown}"))).unwrap();
    assert_eq!(old, None, "the old primary must answer and must not have the payload");

    assert!(cache.size(unknown).await.unwrap().is_some());
    assert!(cache.payload(unknown).await.unwrap().is_some());
    assert!(cache.persist(unknown).await.unwrap());
}

#[tokio::test]
async fn a_payload_that_a_replaced_primary_took_is_given_to_its_successor() {
    let fixture = Fixture::plain(2, 2);
    let cache = fixture.cache(Level::Replicas(1));
    put_until_ok(&cache, fixture.record_of(0)).await;
    let id = fixture.record_of(0);
    isolate(&fixture, 0);
    let replica = fixture.cluster.replica_of(0);
    fixture.cluster.take_over(replica).unwrap();
    let other = fixture.cluster.node(replica + 1);
    let successor = format!("master_port:{}", fixture.cluster.node(replica).port);
    wait_until("the other replica", || {
        other.is_replica_in_sync() && other.info("replication").is_ok_and(|text| text.contains(&successor))
    })
    .unwrap();
    cache
        .put(id, Bytes::from_static(b"payload"))
        .await
        .expect("a replica of the new primary must confirm the payload");
    assert!(cache.payload(id).await.unwrap().is_some());
}

#[tokio::test]
async fn nodes_are_found_by_whatever_name_they_announce() {
    let fixture = Fixture::encrypted(2, 0);
    for (number, kind) in (0..).zip(["ip", "hostname", "unknown-endpoint"]) {
        for node in fixture.cluster.nodes() {
            let mut configure = cmd("CONFIG");
            configure.arg(&["SET", "cluster-announce-hostname", "localhost"]);
            node.run::<()>(configure.arg(&["cluster-preferred-endpoint-type", kind])).unwrap();
        }
        let cache = fixture.cache(Level::Replicas(0));
        let ids = put_some(&cache, 30).await;
        // The cache has read the topology before these slots moved.
        fixture.cluster.move_slots(0, 1, number * 2000..(number + 1) * 2000).unwrap();
        for id in &ids {
            assert!(cache.payload(*id).await.unwrap().is_some(), "{kind}");
            cache.put(*id, Bytes::from_static(b"payload")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_cluster_that_comes_back_empty_reports_absence() {
    let mut fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    let ids = put_some(&cache, 10).await;
    for number in 0..4 {
        fixture.cluster.kill(number).unwrap();
    }
    let away = cache.payload(ids[0]).await.unwrap_err();
    assert_eq!(away.name, ErrorName::CacheUnavailable, "an unavailable cluster must not report absence");
    for number in 0..4 {
        fixture.cluster.restart(number).unwrap();
    }
    fixture.cluster.wait_until_healthy().unwrap();
    for id in &ids {
        assert_eq!(cache.payload(*id).await.unwrap(), None);
        assert!(!cache.persist(*id).await.unwrap());
    }
    put_until_ok(&cache, ids[0]).await;
}

#[tokio::test]
async fn absence_is_not_believed_from_a_node_outside_the_cluster() {
    for (shards, what) in [(1, "the only node"), (2, "one of two")] {
        let mut fixture = Fixture::plain(shards, 0);
        let cache = fixture.cache(Level::Replicas(0));
        let id = fixture.record_of(0);
        put_until_ok(&cache, id).await;
        fixture.cluster.kill(0).unwrap();
        fixture.cluster.restart_without_membership(0).unwrap();
        let error = cache.payload(id).await.unwrap_err();
        assert_eq!(error.name, ErrorName::CacheUnavailable, "{what}: {error}");
        assert!(cache.size(id).await.is_err() && cache.persist(id).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn a_seed_that_has_lost_its_place_in_the_cluster_does_not_hide_the_other_nodes() {
    let mut fixture = Fixture::plain(3, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = fixture.record_of(1);
    put_until_ok(&cache, id).await;
    for number in 0..3 {
        fixture.cluster.kill(number).unwrap();
    }
    fixture.cluster.restart_without_membership(0).unwrap();
    assert!(cache.payload(id).await.is_err(), "only the node that lost its place in the cluster answers");
    fixture.cluster.restart(1).unwrap();
    fixture.cluster.restart(2).unwrap();
    put_until_ok(&cache, id).await;
}
