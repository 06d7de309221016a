//! Tests of puts while a shard lacks replicas or its primary hangs.

use std::time::Duration;

use bytes::Bytes;
use custody_core::{ports::PayloadCache, testing::samples};
use custody_redis::{CacheSettings, Level};

use crate::fixture::{Fixture, put_error, put_until_ok, settings};

/// Returns settings with a breaker pause that does not end during a test.
fn with_long_pause(level: Level) -> CacheSettings {
    CacheSettings { breaker_pause: Duration::from_hours(1), ..settings(level) }
}

#[tokio::test]
async fn a_replica_that_is_away_is_waited_for_once() {
    let mut fixture = Fixture::plain(1, 1);
    let cache = fixture.cache_with(with_long_pause(Level::Replicas(1)));
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    fixture.cluster.kill(1).unwrap();
    let text = put_error(&cache, id).await;
    assert!(text.contains("0 of 1 replicas"), "{text}");
    let sent = fixture.cluster.node(0).calls("set").unwrap();
    for _ in 0..20 {
        let text = put_error(&cache, id).await;
        assert!(text.contains("paused") && text.contains("too few of its replicas"), "{text}");
    }
    assert_eq!(fixture.cluster.node(0).calls("set").unwrap(), sent, "no payload is sent in vain");
    assert!(cache.payload(id).await.unwrap().is_some(), "reads must succeed while puts are paused");
}

#[tokio::test]
async fn a_put_after_the_pause_asks_for_replicas_before_it_sends_its_payload() {
    let mut fixture = Fixture::plain(1, 1);
    // The pause is zero, so each put after the first one comes after the pause.
    let cache = fixture.cache(Level::Replicas(1));
    let id = samples::record_id();
    fixture.cluster.kill(1).unwrap();
    put_error(&cache, id).await;
    let sent = fixture.cluster.node(0).calls("set").unwrap();
    let asked = fixture.cluster.node(0).calls("info").unwrap();
    for _ in 0..20 {
        put_error(&cache, id).await;
    }
    assert_eq!(fixture.cluster.node(0).calls("set").unwrap(), sent, "no payload is sent in vain");
    assert!(fixture.cluster.node(0).calls("info").unwrap() >= asked + 20, "each put must send a probe");

    fixture.cluster.restart(1).unwrap();
    put_until_ok(&cache, id).await;
}

#[tokio::test]
async fn a_shard_that_lacks_its_replica_does_not_hold_up_the_other() {
    let mut fixture = Fixture::plain(2, 1);
    let cache = fixture.cache_with(with_long_pause(Level::Replicas(1)));
    fixture.cluster.kill(fixture.cluster.replica_of(0)).unwrap();
    put_error(&cache, fixture.record_of(0)).await;
    put_error(&cache, fixture.record_of(0)).await;
    cache.put(fixture.record_of(1), Bytes::from_static(b"payload")).await.unwrap();
}

#[tokio::test]
async fn a_node_that_hangs_is_waited_for_once() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache_with(with_long_pause(Level::Sync));
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    fixture.cluster.hang(0).unwrap();
    for _ in 0..20 {
        let text = put_error(&cache, id).await;
        assert!(text.contains("paused") && text.contains("did not answer"), "{text}");
    }
    fixture.cluster.resume(0).unwrap();
    // The resumed node runs the commands that it received while it hung: the first of the 20 puts, which was sent on
    // the idle connection and on a new one.
    assert!(fixture.cluster.node(0).calls("set").unwrap() <= 3, "no payload is sent in vain");
}

#[tokio::test]
async fn a_node_that_hung_is_used_again_once_it_answers() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Sync);
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    fixture.cluster.hang(0).unwrap();
    put_error(&cache, id).await;
    fixture.cluster.resume(0).unwrap();
    put_until_ok(&cache, id).await;
}
