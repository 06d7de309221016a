//! Tests of connections whose last exchange was not completed.

use std::time::Duration;

use bytes::Bytes;
use custody_core::{ports::PayloadCache, testing::samples};
use custody_redis::{CacheSettings, Level, Tls};
use custody_redis_cluster::admin::Node;
use futures_util::{StreamExt as _, future::join_all};
use redis::cmd;

use crate::{
    fixture::{Fixture, put_until_ok, read_until_answered, settings},
    proxy::Proxy,
};

#[tokio::test]
async fn an_answer_that_comes_after_a_time_out_is_not_taken_for_that_to_the_next_call() {
    let fixture = Fixture::plain(1, 0);
    let limits = CacheSettings {
        stall_limit: Duration::from_millis(100),
        call_limit: Duration::from_secs(3),
        ..settings(Level::Sync)
    };
    let cache = fixture.cache_with(limits);
    let (late, next) = (samples::record_id(), samples::record_id());
    put_until_ok(&cache, late).await;
    put_until_ok(&cache, next).await;
    fixture.cluster.hang(0).unwrap();
    let resume = async {
        // By then the call has sent its command more than once, and will get more than one answer.
        tokio::time::sleep(limits.stall_limit * 5).await;
        fixture.cluster.resume(0).unwrap();
    };
    let (read, ()) = tokio::join!(cache.payload(late), resume);
    assert_eq!(read.unwrap().unwrap(), late.to_string());
    // The late answers have arrived now, and no others will. The reads run together, so that every idle connection is
    // used.
    fixture.cluster.hang(0).unwrap();
    let reads = join_all((0..8).map(|_| cache.payload(next))).await;
    assert!(reads.iter().all(Result::is_err), "a late answer must not answer this call: {reads:?}");
    fixture.cluster.resume(0).unwrap();
    assert_eq!(read_until_answered(&cache, next).await, Some(next.to_string().into_bytes()));
}

#[tokio::test]
async fn an_answer_to_a_call_that_was_dropped_is_not_taken_for_that_to_the_next_call() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Sync);
    let (dropped, next) = (samples::record_id(), samples::record_id());
    put_until_ok(&cache, dropped).await;
    put_until_ok(&cache, next).await;
    fixture.cluster.hang(0).unwrap();
    let call = tokio::time::timeout(Duration::from_millis(50), cache.payload(dropped)).await;
    assert!(call.is_err(), "the caller must stop waiting before the node answers");
    fixture.cluster.resume(0).unwrap();
    assert_eq!(read_until_answered(&cache, next).await, Some(next.to_string().into_bytes()));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced_in_the_same_call() {
    let fixture = Fixture::encrypted(2, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = samples::record_id();
    for _ in 0..3 {
        cache
            .put(id, Bytes::from_static(b"payload"))
            .await
            .expect("a put must succeed after the server closed all connections");
        assert!(cache.payload(id).await.unwrap().is_some());
        for node in fixture.cluster.nodes() {
            node.run::<()>(cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])).unwrap();
        }
    }
}

#[tokio::test]
async fn a_payload_that_was_read_in_pieces_leaves_its_connection_for_the_next_call() {
    let fixture = Fixture::plain(1, 0);
    let node = fixture.cluster.node(0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = samples::record_id();
    let payload = vec![7; 300_000];
    cache.put(id, payload.clone().into()).await.unwrap();
    let others = connections_received(node);
    for _ in 0..5 {
        let source = cache.source(id).await.unwrap().unwrap();
        let (mut pieces, mut read) = (source.pieces(), 0);
        // Like an upload, the reader knows the size and polls for no piece after the last one.
        while read < payload.len() {
            read += pieces.next().await.unwrap().unwrap().len();
        }
    }
    // The call that reads this number opens one connection, too.
    assert_eq!(connections_received(node), others + 1);
}

fn connections_received(node: &Node) -> u64 {
    let stats = node.info("stats").unwrap();
    let value = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    value.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_connection_that_the_network_forgot_meanwhile_is_replaced_in_the_same_call() {
    let fixture = Fixture::plain(1, 0);
    let node = fixture.cluster.node(0);
    let proxy = Proxy::to(node.port);
    node.run::<()>(cmd("CONFIG").arg("SET").arg("cluster-announce-port").arg(proxy.port)).unwrap();
    let through_the_proxy = Node { port: proxy.port, ..node.clone() };
    let long_pause = CacheSettings { breaker_pause: Duration::from_hours(1), ..settings(Level::Sync) };
    let cache = fixture.cache_from(&through_the_proxy, Tls::Off, None, long_pause);
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    proxy.forget_connections();
    cache.put(id, Bytes::from_static(b"payload")).await.expect("the put must succeed on a new connection");
    proxy.forget_connections();
    assert!(cache.payload(id).await.unwrap().is_some());
}

#[tokio::test]
async fn calls_that_follow_one_another_share_one_connection() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    let connections = || -> u64 {
        let stats = fixture.cluster.node(0).info("stats").unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = connections();
    for _ in 0..10 {
        cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
        assert!(cache.payload(id).await.unwrap().is_some());
        assert!(cache.persist(id).await.unwrap());
    }
    assert_eq!(connections(), before + 1, "only the call that counts the connections may open a new one");
}
