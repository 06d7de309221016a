//! Tests of the upload stage over the doubles.

use std::{
    future::{pending, ready},
    time::Duration,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    access::Credential,
    digest::Sha256,
    error::ErrorName,
    ports::{OpenRecords as _, StagingArea, Uploads as _},
    testing::{
        log::with_log,
        samples,
        world::{InMemory, World},
    },
    upload::UPLOAD_LIFETIME,
};

const PAYLOAD: &[u8] = b"\x89PNG a picture";

fn body(note: &str, payload: &[u8]) -> Value {
    json!({
        "messageMetaData": {"messageType": "t", "sourceSystemID": "s", "dateTime": "2026-01-31T09:30:00Z", "note": note},
        "payload": {"size": payload.len(), "sha256": Sha256::of(payload), "contentType": "image/png"},
    })
}

fn event(resource: &str, id: &str, body: &str, key: Option<&str>, caller: &str) -> Bytes {
    let mut headers = json!({"content-type": "application/json"});
    if let Some(key) = key {
        headers["Idempotency-Key"] = key.into();
    }
    let event = json!({
        "resource": resource,
        "pathParameters": {"uploadID": id},
        "headers": headers,
        "body": body,
        "requestContext": {"requestId": "r-1", "identity": {"apiKeyId": caller}},
    });
    Bytes::from(event.to_string())
}

async fn run(api: &Arc<UploadApi<InMemory>>, event: Bytes) -> (u16, Value) {
    let answer = Arc::clone(api).run(&event, pending()).await;
    api.follow_up(answer.follow_up).await;
    (answer.response.status_code, serde_json::from_str(&answer.response.body).unwrap())
}

async fn begin(world: &World, note: &str, payload: &[u8], key: Option<&str>) -> (u16, Value) {
    run(&world.upload(), event("/uploads", "", &body(note, payload).to_string(), key, "caller")).await
}

async fn complete(world: &World, id: &str) -> (u16, Value) {
    run(&world.upload(), event("/uploads/{uploadID}/complete", id, "", None, "caller")).await
}

async fn show(world: &World, id: &str) -> (u16, Value) {
    run(&world.upload(), event("/uploads/{uploadID}", id, "", None, "caller")).await
}

fn id_of(answer: &Value) -> (&str, RecordId) {
    let text = answer["messageID"].as_str().unwrap();
    (text, text.parse().unwrap())
}

fn slug((status, answer): &(u16, Value)) -> (u16, &str) {
    (*status, answer["type"].as_str().unwrap_or_default().trim_start_matches("urn:custody:problem:"))
}

fn advance(world: &World, by: Duration) {
    world.clock.advance_ms(i64::try_from(by.as_millis()).unwrap());
}

#[tokio::test]
async fn an_upload_becomes_a_record_when_it_is_completed_and_not_before() {
    let world = World::default();
    let (status, begun) = begin(&world, "a", PAYLOAD, None).await;
    assert_eq!((status, &begun["status"]), (201, &json!("PENDING")));
    let (text, id) = id_of(&begun);
    assert_eq!(begun["links"]["self"], format!("uploads/{text}"));
    assert_eq!(begun["upload"]["method"], "PUT");
    let early = complete(&world, text).await;
    assert_eq!(slug(&early), (409, "upload-incomplete"));
    assert!(world.open_records.all().is_empty() && world.archive.objects().is_empty());

    world.staging.upload(id, PAYLOAD);
    let (_, uploaded) = show(&world, text).await;
    assert_eq!(uploaded["status"], "UPLOADED");
    assert!(uploaded.get("upload").is_none() && world.open_records.all().is_empty());

    // The completion comes hours later: the record is new then.
    advance(&world, Duration::from_hours(20));
    let (status, receipt) = complete(&world, text).await;
    assert_eq!((status, &receipt["durability"]), (200, &json!("archived")), "{receipt}");
    assert_eq!(
        receipt["payload"],
        json!({"sha256": Sha256::of(PAYLOAD), "size": PAYLOAD.len(), "contentType": "image/png", "encoding": "binary"})
    );
    assert_eq!(receipt["links"]["self"], format!("../../messages/{text}"));
    let open = world.open_records.get(id).unwrap();
    assert_eq!(open.message.begun_at(), crate::clock::Clock::now(&world.clock));
    assert_eq!(open.look_at, open.message.begun_at().after(crate::testing::world::FIRST_LOOK));
    assert_eq!(open.message.security_context.request_context.principal.as_deref(), Some("caller"));
    let place = &open.message.storage_context;
    assert_eq!(place.s3_reference.as_ref().map(|object| &object.key), Some(&id.archive_key()));
    assert!(
        place.persistence.s3 && place.redis_reference.is_none(),
        "the workflow finds the payload archived"
    );
    assert_eq!(world.archive.content(&id.archive_key()).unwrap(), PAYLOAD);
    assert_eq!(world.workflow.names(), [format!("{id}-1-1")]);
    assert!(world.staging.staged().is_empty(), "the staged payload is removed");

    let (_, shown) = show(&world, text).await;
    assert_eq!((&shown["status"], &shown["receipt"]["messageID"]), (&json!("ACCEPTED"), &json!(text)));
    assert_eq!(shown["receipt"]["links"]["self"], format!("../messages/{text}"));
}

#[tokio::test]
async fn completing_twice_is_one_record_also_after_it_was_closed() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    let first = complete(&world, text).await;
    world.open_records.close(world.open_records.get(id).unwrap().attempt()).await.unwrap();
    let again = complete(&world, text).await;
    assert_eq!(first.1, again.1);
    assert!(world.open_records.all().is_empty(), "a closed record is not opened again");
    assert_eq!(world.workflow.names().len(), 1);
}

#[tokio::test]
async fn two_completions_at_once_are_one_record() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, Some("key")).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    let (one, other) = futures_util::future::join(complete(&world, text), complete(&world, text)).await;
    assert_eq!((one.0, other.0), (200, 200), "{one:?} {other:?}");
    assert_eq!(one.1["messageID"], other.1["messageID"]);
    assert_eq!((world.open_records.all().len(), world.archive.objects().len()), (1, 1));
}

#[tokio::test]
async fn a_completion_that_another_one_overtakes_at_any_point_repeats_the_receipt() {
    for yields in 0..40 {
        let world = World::default();
        let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
        let (text, id) = id_of(&begun);
        world.staging.upload(id, PAYLOAD);
        world.staging.slow_down(8);
        let late = async {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            complete(&world, text).await
        };
        let (one, other) = futures_util::future::join(complete(&world, text), late).await;
        assert_eq!((one.0, other.0), (200, 200), "after {yields}: {} {}", one.1, other.1);
        assert_eq!(world.workflow.names().len(), 1, "after {yields}");
    }
}

#[tokio::test]
async fn an_upload_whose_key_another_record_has_taken_is_a_conflict() {
    let world = World::default();
    let event = event("/uploads", "", &body("a", PAYLOAD).to_string(), Some("key"), "k-1");
    let (_, begun) = run(&world.upload(), event).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    let sent = world.ingest().run(crate::stages::scenarios::request("text", "", Some("key"))).await;
    assert_eq!(sent.response.status_code, 200, "{}", sent.response.body);
    let event = self::event("/uploads/{uploadID}/complete", text, "", None, "k-1");
    assert_eq!(slug(&run(&world.upload(), event).await), (409, "idempotency-conflict"));
    assert!(world.archive.objects().is_empty(), "the claim is read before the archive is written");
}

#[tokio::test]
async fn only_json_describes_an_upload() {
    let world = World::default();
    let text = body("a", PAYLOAD).to_string();
    for (content_type, is_base64, status) in [
        ("application/json; charset=utf-8", false, 201),
        ("image/png", false, 415),
        ("application/json", true, 415),
    ] {
        let mut request: Value =
            serde_json::from_slice(&event("/uploads", "", &text, None, "caller")).unwrap();
        request["headers"]["content-type"] = content_type.into();
        request["isBase64Encoded"] = is_base64.into();
        let answer = run(&world.upload(), Bytes::from(request.to_string())).await;
        assert_eq!(answer.0, status, "{content_type} {is_base64}: {}", answer.1);
    }
}

#[tokio::test]
async fn two_uploads_under_one_key_are_one_record_and_other_content_is_a_conflict() {
    let world = World::default();
    let (_, first) = begin(&world, "a", PAYLOAD, Some("key")).await;
    let (status, again) = begin(&world, "a", PAYLOAD, Some("key")).await;
    assert_eq!((status, &first["messageID"]), (200, &again["messageID"]));
    for (note, payload) in [("b", PAYLOAD), ("a", b"other".as_slice())] {
        assert_eq!(slug(&begin(&world, note, payload, Some("key")).await), (409, "idempotency-conflict"));
    }
    let (text, id) = id_of(&first);
    world.staging.upload(id, PAYLOAD);
    assert_eq!(complete(&world, text).await.0, 200);
    let (status, again) = begin(&world, "a", PAYLOAD, Some("key")).await;
    assert_eq!(
        (status, &again["status"], &again["receipt"]["messageID"]),
        (200, &json!("ACCEPTED"), &first["messageID"])
    );
}

#[tokio::test]
async fn a_key_that_a_record_holds_gives_its_receipt_and_leaves_nothing_in_the_archive() {
    let world = World::default();
    let mut ids = Vec::new();
    for _ in 0..2 {
        // The first upload of the key expires, or its claim would stand for it; the second is another upload.
        let (_, begun) = begin(&world, "a", PAYLOAD, Some("key")).await;
        ids.push(id_of(&begun).1);
        advance(&world, Duration::from_secs(UPLOAD_LIFETIME.as_secs() - 1));
        world.staging.upload(ids[ids.len() - 1], PAYLOAD);
        let (status, receipt) = complete(&world, &ids[ids.len() - 1].to_string()).await;
        assert_eq!((status, &receipt["messageID"]), (200, &json!(ids[0])));
        advance(&world, Duration::from_secs(1));
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!((world.open_records.all().len(), world.archive.objects().len()), (1, 1));
}

#[tokio::test]
async fn an_expired_upload_is_unknown_and_leaves_nothing() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, Some("key")).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    advance(&world, UPLOAD_LIFETIME);
    assert_eq!(slug(&show(&world, text).await), (404, "unknown-upload"));
    assert_eq!(slug(&complete(&world, text).await), (404, "unknown-upload"));
    assert!(world.archive.objects().is_empty() && world.open_records.all().is_empty());
    let (status, again) = begin(&world, "a", PAYLOAD, Some("key")).await;
    assert_eq!(status, 201, "the key is free again");
    assert_ne!(id_of(&again).1, id);
}

#[tokio::test]
async fn a_payload_with_another_size_or_digest_is_not_accepted() {
    let world = World::default();
    for wrong in [&b"\x89PNG a pictuRe"[..], b"longer than it was announced"] {
        let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
        let (text, id) = id_of(&begun);
        world.staging.upload(id, wrong);
        assert_eq!(slug(&complete(&world, text).await), (422, "digest-mismatch"));
        assert!(world.archive.objects().is_empty() && world.open_records.all().is_empty());
    }
}

#[tokio::test]
async fn only_the_principal_that_began_an_upload_may_see_and_complete_it() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    for resource in ["/uploads/{uploadID}", "/uploads/{uploadID}/complete"] {
        // The other principal may write the same source systems.
        let answer = run(&world.upload(), event(resource, text, "", None, "k-1")).await;
        assert_eq!(slug(&answer), (404, "unknown-upload"));
        let answer = run(&world.upload(), event(resource, text, "", None, "nobody")).await;
        assert_eq!(slug(&answer), (403, "forbidden"));
        let answer = run(&world.upload(), event(resource, "../x", "", None, "caller")).await;
        assert_eq!(slug(&answer), (400, "invalid-query"));
    }
    let (credential, entry) =
        (Credential::ApiKey("caller".to_owned()), samples::producer("caller", &["other"]));
    world.access.set(&credential, &entry);
    assert_eq!(slug(&begin(&world, "a", PAYLOAD, None).await), (403, "forbidden"));
    assert_eq!(slug(&complete(&world, text).await), (403, "forbidden"), "its right was taken away");
    world.access.set(&credential, &AccessEntry { role: crate::access::Role::Auditor, ..entry });
    assert_eq!(slug(&begin(&world, "a", PAYLOAD, None).await), (403, "forbidden"));
    assert!(world.open_records.all().is_empty());
}

#[tokio::test]
async fn each_denial_has_a_line_in_the_access_log() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
    let (text, id) = id_of(&begun);
    world.access.set(&Credential::ApiKey("other".to_owned()), &samples::producer("other", &["o"]));
    let other_source = event("/uploads", "", &body("a", PAYLOAD).to_string(), None, "other");
    let of_the_other = |resource| event(resource, text, "", None, "other");
    for (event, problem, record) in [
        (other_source, "forbidden", None),
        (of_the_other("/uploads/{uploadID}"), "unknown-upload", Some(id)),
        (of_the_other("/uploads/{uploadID}/complete"), "unknown-upload", Some(id)),
    ] {
        let (_, lines) = with_log(run(&world.upload(), event)).await;
        let [denial, refusal] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            (&denial["access.outcome"], &denial["access.action"]),
            (&json!("denied"), &json!("upload"))
        );
        assert_eq!(
            (&denial["access.principal"], &denial["access.source_system_id"]),
            (&json!("other"), &json!("s"))
        );
        assert_eq!(denial["record.id"], json!(record));
        assert_eq!(
            (&refusal["message"], &refusal["problem"]),
            (&json!("refused a request"), &json!(problem))
        );
        assert_eq!((&refusal["request.id"], &refusal["stage"]), (&json!("r-1"), &json!("upload")));
    }
}

#[tokio::test]
async fn a_completion_that_takes_long_goes_on_after_the_response() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    let api = world.upload();
    let event = event("/uploads/{uploadID}/complete", text, "", None, "caller");
    let answer = Arc::clone(&api).run(&event, ready(())).await;
    assert_eq!(answer.response.status_code, 202);
    assert!(answer.response.headers.contains_key("Retry-After"));
    assert!(world.open_records.all().is_empty(), "nothing is promised yet");
    api.follow_up(answer.follow_up).await;
    assert_eq!(world.workflow.names(), [format!("{id}-1-1")]);
    assert_eq!(complete(&world, text).await.0, 200);
    assert_eq!(show(&world, text).await.1["status"], "ACCEPTED");
}

#[tokio::test]
async fn a_completion_that_died_at_any_store_is_completed_by_the_next_call() {
    for (name, fail) in [
        ("archive", (|world, error| world.archive.fail_with(error)) as fn(&World, Option<ErrorName>)),
        ("staging", |world, error| world.staging.fail_with(error)),
        ("table", |world, error| world.open_records.fail_with(error)),
        ("acceptance", |world, error| world.open_records.fail_accepts(error.is_some())),
        ("uploads", |world, error| world.uploads.fail_with(error)),
    ] {
        let world = World::default();
        let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
        let (text, id) = id_of(&begun);
        world.staging.upload(id, PAYLOAD);
        fail(&world, Some(ErrorName::TableUnavailable));
        let (status, answer) = complete(&world, text).await;
        assert_eq!(status, 503, "{name}: {answer}");
        fail(&world, None);
        assert_eq!(complete(&world, text).await.0, 200, "{name}");
        assert_eq!((world.open_records.all().len(), world.archive.objects().len()), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_staged_payload_that_another_completion_removed_is_found_in_the_archive() {
    let world = World::default();
    let (_, begun) = begin(&world, "a", PAYLOAD, None).await;
    let (_, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    let upload = world.uploads.find(id).await.unwrap().unwrap();
    let staged = StagingArea::find(&world.staging, id).await.unwrap().unwrap();
    let payload = upload.descriptor(Sha256::of(PAYLOAD));
    let now = crate::clock::Clock::now(&world.clock);
    let archived = world.staging.archive(id, &staged, &payload, now).await.unwrap();
    world.staging.remove(id).await.unwrap();
    assert_eq!(world.staging.archive(id, &staged, &payload, now).await.unwrap(), archived);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_a_problem() {
    let world = World::default();
    let api = world.upload();
    for (resource, body, status) in [
        ("/uploads", "", 400),
        ("/uploads", "{", 400),
        ("/uploads", "[1]", 400),
        ("/uploads", r#"{"messageMetaData":{},"payload":{"size":1}}"#, 422),
        ("/other", "", 400),
    ] {
        let answer = run(&api, event(resource, "", body, None, "caller")).await;
        assert_eq!(answer.0, status, "{resource} {body}: {}", answer.1);
        assert!(answer.1["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    let key = "k".repeat(300);
    let answer =
        run(&api, event("/uploads", "", &body("a", PAYLOAD).to_string(), Some(&key), "caller")).await;
    assert_eq!(slug(&answer), (400, "invalid-header"));
    let answer = Arc::clone(&api).run(&Bytes::from_static(b"{"), pending()).await;
    assert_eq!(answer.response.status_code, 400);
}

/// Begins an upload that is so large that only one completion at a time copies it. No payload is that large in a test.
async fn begin_large(world: &World) -> RecordId {
    let mut large = body("large", PAYLOAD);
    large["payload"]["size"] = transfers::LEASED_BYTES.into();
    let (status, begun) =
        run(&world.upload(), event("/uploads", "", &large.to_string(), None, "caller")).await;
    assert_eq!(status, 201, "{begun}");
    id_of(&begun).1
}

#[tokio::test]
async fn while_a_completion_copies_a_large_payload_another_one_is_told_to_wait() {
    let world = World::default();
    let id = begin_large(&world).await;
    let now = crate::clock::Clock::now(&world.clock);
    let until = now.after(Duration::from_mins(1));
    assert!(world.uploads.lease(id, until, now).await.unwrap());
    world.staging.upload(id, PAYLOAD);
    let (status, answer) = complete(&world, &id.to_string()).await;
    assert_eq!((status, &answer["status"]), (202, &json!("UPLOADED")), "{answer}");

    advance(&world, Duration::from_mins(1));
    let tried = complete(&world, &id.to_string()).await;
    assert_eq!(slug(&tried), (422, "digest-mismatch"), "the right has ended, so the payload is looked at");
}

#[tokio::test]
async fn a_completion_that_fails_gives_its_right_back() {
    let world = World::default();
    let id = begin_large(&world).await;
    assert_eq!(slug(&complete(&world, &id.to_string()).await), (409, "upload-incomplete"));
    let now = crate::clock::Clock::now(&world.clock);
    let until = now.after(Duration::from_mins(1));
    assert!(world.uploads.lease(id, until, now).await.unwrap());
}

#[tokio::test]
async fn a_completion_goes_on_without_its_right_while_the_upload_table_is_away() {
    let world = World::default();
    let id = begin_large(&world).await;
    let upload = crate::ports::Uploads::find(&world.uploads, id).await.unwrap().unwrap();
    world.uploads.fail_with(Some(ErrorName::TableUnavailable));
    let problem = world.transfers().complete(&upload).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::UploadIncomplete, "the staging area was asked");
}

#[tokio::test]
async fn ten_thousand_abandoned_uploads_expire_and_keep_nobody_from_uploading() {
    let world = World::default();
    let mut first = None;
    for number in 0..10_000 {
        let (status, begun) = begin(&world, &number.to_string(), PAYLOAD, None).await;
        assert_eq!(status, 201);
        first.get_or_insert(id_of(&begun).1);
    }
    let (status, begun) = begin(&world, "after the others", PAYLOAD, None).await;
    assert_eq!(status, 201);
    let (text, id) = id_of(&begun);
    world.staging.upload(id, PAYLOAD);
    assert_eq!(complete(&world, text).await.0, 200);
    assert_eq!(world.staging.staged(), [], "beginning an upload stores nothing in the staging area");
    assert_eq!(world.archive.objects().len(), 1);

    advance(&world, UPLOAD_LIFETIME);
    let expired = show(&world, &first.unwrap().to_string()).await;
    assert_eq!(slug(&expired), (404, "unknown-upload"));
}

#[test]
fn the_right_to_copy_ends_soon_for_small_payloads_and_later_for_large_ones() {
    assert_eq!(transfers::lease_time(20_000_000), Duration::from_secs(61));
    assert_eq!(transfers::lease_time(5_000_000_000), Duration::from_secs(310));
}
