//! What becomes of payloads while the cluster changes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use custody_core::{
    error::ErrorName, ports::payload_cache::PayloadCache, record_id::RecordId, testing::samples,
};
use custody_redis::{Level, Tls};
use custody_redis_cluster::admin::{Node, wait_until};
use redis::cmd;

use crate::fixture::{Cache, Fixture, put_in_the_end, read_in_the_end, settings};

const HALF: u16 = 8192;

async fn put_some(cache: &Cache, count: usize) -> Vec<RecordId> {
    let ids: Vec<RecordId> = (0..count).map(|_| samples::record_id()).collect();
    for id in &ids {
        cache.put(*id, id.to_string().as_bytes()).await.unwrap();
    }
    ids
}

async fn expect_all(cache: &Cache, ids: &[RecordId]) {
    for id in ids {
        let read = read_in_the_end(cache, *id).await;
        assert_eq!(read, Some(id.to_string().into_bytes()), "an acknowledged payload is lost");
    }
}

/// Makes a node forget all others: it does not hear of a take-over then, and goes on as if its slots were its own.
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
        assert!(cache.payload(*id).await.unwrap().is_some(), "nothing is refused on the way");
        cache.put(*id, id.to_string().as_bytes()).await.unwrap();
    }
    expect_all(&cache, &ids).await;
}

#[tokio::test]
async fn a_payload_of_a_slot_that_is_being_moved_is_taken_and_found_by_whoever_has_it() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    let id = fixture.record_of(0);
    let (source, target) = (fixture.cluster.node(0), fixture.cluster.node(1));
    let set_slot = |node: &Node, how: &str, other: &str| {
        node.run::<()>(cmd("CLUSTER").arg("SETSLOT").arg(fixture.slot_of(id)).arg(how).arg(other)).unwrap();
    };
    set_slot(target, "IMPORTING", &source.id().unwrap());
    set_slot(source, "MIGRATING", &target.id().unwrap());

    assert_eq!(cache.payload(id).await.unwrap(), None, "neither of the two has it");
    assert!(!cache.persist(id).await.unwrap());
    cache.put(id, b"payload").await.unwrap();
    assert!(target.calls("asking").unwrap() > 0, "the source sends it to the target");
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
                        .put(id, id.to_string().as_bytes())
                        .await
                        .expect("a put is taken by one node or another");
                    ids.push(id);
                    let earlier = ids[under_way * 7 % ids.len()];
                    assert!(
                        cache.payload(earlier).await.unwrap().is_some(),
                        "an acknowledged payload is away"
                    );
                    under_way += 1;
                }
            });
        });
    });
    assert!(under_way > 0, "there was no load");
    expect_all(&cache, &ids).await;
    let held: u64 = fixture.cluster.node(added).run(&cmd("DBSIZE")).unwrap();
    assert!(held > 0, "the new shard takes its part");
}

#[tokio::test]
async fn a_replica_that_takes_over_from_a_dead_primary_has_all_that_was_acknowledged() {
    let mut fixture = Fixture::encrypted(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    let mut ids = put_some(&cache, 40).await;
    fixture.cluster.kill(0).unwrap();
    fixture.cluster.take_over(fixture.cluster.replica_of(0)).unwrap();
    expect_all(&cache, &ids).await;
    // Until there is a replica again, no put is confirmed.
    fixture.cluster.restart(0).unwrap();
    for shard in [0, 1] {
        let id = fixture.record_of(shard);
        put_in_the_end(&cache, id).await;
        ids.push(id);
    }
    expect_all(&cache, &ids).await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_left_for_the_replica_that_took_over() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Sync);
    let (id, during) = (fixture.record_of(0), fixture.record_of(0));
    put_in_the_end(&cache, id).await;
    fixture.cluster.hang(0).unwrap();
    fixture.cluster.take_over(fixture.cluster.replica_of(0)).unwrap();
    cache.put(during, b"payload").await.expect("the new primary takes it in the time of the same call");
    assert!(cache.payload(id).await.unwrap().is_some());
    fixture.cluster.resume(0).unwrap();
    for _ in 0..20 {
        assert!(read_in_the_end(&cache, during).await.is_some());
    }
}

#[tokio::test]
async fn a_primary_that_does_not_know_of_its_successor_is_no_witness_of_absence() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Sync);
    let (known, unknown) = (fixture.record_of(0), fixture.record_of(0));
    put_in_the_end(&cache, known).await;
    let replica = fixture.cluster.replica_of(0);
    isolate(&fixture, 0);
    fixture.cluster.take_over(replica).unwrap();
    let successor = fixture.cache_from(fixture.cluster.node(replica), Tls::Off, None, settings(Level::Sync));
    put_in_the_end(&successor, unknown).await;
    let old: Option<String> = fixture.cluster.node(0).run(cmd("GET").arg(format!("rec:{unknown}"))).unwrap();
    assert_eq!(old, None, "the old primary answers, and does not have it");

    assert!(cache.size(unknown).await.unwrap().is_some());
    assert!(cache.payload(unknown).await.unwrap().is_some());
    assert!(cache.persist(unknown).await.unwrap());
}

#[tokio::test]
async fn a_payload_that_a_replaced_primary_took_is_given_to_its_successor() {
    let fixture = Fixture::plain(2, 2);
    let cache = fixture.cache(Level::Replicas(1));
    put_in_the_end(&cache, fixture.record_of(0)).await;
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
    cache.put(id, b"payload").await.expect("the successor has a replica that confirms it");
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
        // The cache has seen where slots were before they moved.
        fixture.cluster.move_slots(0, 1, number * 2000..(number + 1) * 2000).unwrap();
        for id in &ids {
            assert!(cache.payload(*id).await.unwrap().is_some(), "{kind}");
            cache.put(*id, b"payload").await.unwrap();
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
    assert_eq!(away.name, ErrorName::CacheUnavailable, "a cluster that is away reports nothing");
    for number in 0..4 {
        fixture.cluster.restart(number).unwrap();
    }
    fixture.cluster.wait_until_healthy().unwrap();
    for id in &ids {
        assert_eq!(cache.payload(*id).await.unwrap(), None);
        assert!(!cache.persist(*id).await.unwrap());
    }
    put_in_the_end(&cache, ids[0]).await;
}

#[tokio::test]
async fn a_node_that_has_lost_its_place_in_the_cluster_is_no_witness_of_absence() {
    for (shards, what) in [(1, "the only node"), (2, "one of two")] {
        let mut fixture = Fixture::plain(shards, 0);
        let cache = fixture.cache(Level::Replicas(0));
        let id = fixture.record_of(0);
        put_in_the_end(&cache, id).await;
        fixture.cluster.kill(0).unwrap();
        fixture.cluster.restart_as_stranger(0).unwrap();
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
    put_in_the_end(&cache, id).await;
    for number in 0..3 {
        fixture.cluster.kill(number).unwrap();
    }
    fixture.cluster.restart_as_stranger(0).unwrap();
    assert!(cache.payload(id).await.is_err(), "only the stranger answers");
    fixture.cluster.restart(1).unwrap();
    fixture.cluster.restart(2).unwrap();
    put_in_the_end(&cache, id).await;
}
