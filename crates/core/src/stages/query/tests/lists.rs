//! Tests of lists: pages, cursors, and questions that are not acceptable.

use super::*;

#[tokio::test]
async fn a_list_goes_on_page_by_page_while_records_arrive() {
    let world = world();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(completed(&world, "loans").await.message_id.to_string());
        world.clock.advance_ms(10);
    }
    ids.reverse();
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut parameters = json!({"sourceSystemID": "loans", "limit": "2", "status": "COMPLETED"});
        if let Some(cursor) = cursor.as_str() {
            parameters["cursor"] = cursor.into();
        }
        let (status, body) = list(&world, "loans", parameters).await;
        assert_eq!(status, 200, "{body}");
        let page: Vec<_> = body["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["messageID"].as_str().unwrap().to_owned())
            .collect();
        assert!(page.len() <= 2);
        seen.extend(page);
        completed(&world, "loans").await;
        cursor = body["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, ids, "what arrives later belongs to no later page");
}

#[tokio::test]
async fn a_list_has_only_what_its_caller_may_read() {
    let world = world();
    for source in ["loans", "cards", "shared"] {
        completed(&world, source).await;
    }
    let (status, body) = list(&world, "loans", json!({"sourceSystemID": "cards"})).await;
    assert_eq!((status, problem(&body)), (403, "forbidden"));
    for (caller, count) in [("loans", 2), ("cards", 2), ("audit", 3)] {
        let (_, body) = list(&world, caller, json!({"sourceTransactionID": "tx"})).await;
        assert_eq!(body["records"].as_array().unwrap().len(), count, "{caller}: {body}");
    }
    // A cursor contains an id, so it must be one of a record that the caller may read.
    let forbidden = completed(&world, "loans").await.message_id.to_string();
    let (_, body) = list(&world, "cards", json!({"sourceTransactionID": "tx", "limit": "1"})).await;
    assert_eq!(body["records"].as_array().unwrap().len(), 1, "a page is full of what may be read: {body}");
    let cursor = body["nextCursor"].as_str().unwrap();
    let content = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(cursor).unwrap();
    assert!(!String::from_utf8(content).unwrap().contains(&forbidden));
}

#[tokio::test]
async fn a_cursor_belongs_to_its_question_and_its_principal() {
    let world = world();
    for _ in 0..3 {
        completed(&world, "shared").await;
    }
    let question = json!({"sourceSystemID": "shared", "limit": "1"});
    let (_, body) = list(&world, "loans", question.clone()).await;
    let cursor = body["nextCursor"].as_str().unwrap().to_owned();
    let with = |cursor: &str, changes: Value| {
        let mut parameters = question.clone();
        parameters["cursor"] = cursor.into();
        for (name, value) in changes.as_object().unwrap() {
            parameters[name] = value.clone();
        }
        parameters
    };
    assert_eq!(list(&world, "loans", with(&cursor, json!({}))).await.0, 200);
    assert_eq!(
        list(&world, "loans", with(&cursor, json!({"limit": "2"}))).await.0,
        200,
        "the limit may change"
    );
    for (caller, parameters) in [
        ("cards", with(&cursor, json!({}))),
        ("loans", with(&cursor, json!({"status": "FAILED"}))),
        ("loans", with(&cursor, json!({"from": "2026-01-01T00:00:00Z"}))),
        ("loans", with(&cursor, json!({"sourceSystemID": "loans"}))),
        ("loans", with(&cursor[1..], json!({}))),
        ("loans", with(&format!("A{}", &cursor[1..]), json!({}))),
        ("loans", with("", json!({}))),
        ("loans", with("ü", json!({}))),
        ("loans", with(&"A".repeat(5_000), json!({}))),
    ] {
        let (status, body) = list(&world, caller, parameters.clone()).await;
        assert_eq!((status, problem(&body)), (400, "invalid-query"), "{caller} {parameters}");
    }
}

#[tokio::test]
async fn a_question_that_is_not_acceptable_gets_advice() {
    let world = world();
    for (parameters, advice) in [
        (json!({}), "either"),
        (json!({"sourceSystemID": "loans", "sourceTransactionID": "tx"}), "either"),
        (json!({"sourceSystemID": ""}), "1 to 256"),
        (json!({"sourceSystemID": "a\u{0}b"}), "control"),
        (json!({"sourceSystemID": "x".repeat(10_000)}), "1 to 256"),
        (json!({"sourceSystemID": "loans", "limit": "0"}), "1 to 100"),
        (json!({"sourceSystemID": "loans", "limit": "101"}), "1 to 100"),
        (json!({"sourceSystemID": "loans", "status": "completed"}), "COMPLETED"),
        (json!({"sourceSystemID": "loans", "from": "yesterday"}), "RFC 3339"),
        (
            json!({"sourceSystemID": "loans", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
            "later",
        ),
        (json!({"sourceSystemID": "loans", "soruceSystemID": "x"}), "is not a parameter"),
    ] {
        let (status, body) = list(&world, "audit", parameters.clone()).await;
        assert_eq!((status, problem(&body)), (400, "invalid-query"), "{parameters}");
        assert!(body["detail"].as_str().unwrap().contains(advice), "{body}");
    }
    let longest = "ä".repeat(256);
    assert_eq!(list(&world, "audit", json!({"sourceSystemID": longest})).await.0, 200);
    let moment =
        json!({"sourceSystemID": "loans", "from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    assert_eq!(list(&world, "audit", moment).await.0, 200);
    let ages =
        json!({"sourceSystemID": "loans", "from": "1852-11-02T02:51:28Z", "to": "9999-12-30T00:00:00Z"});
    assert_eq!(list(&world, "audit", ages).await.0, 200);
    let decade =
        json!({"sourceSystemID": "../../etc", "from": "2016-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
    assert_eq!(list(&world, "audit", decade).await, (200, json!({"records": []})));
    let (status, body) =
        ask(&world.query(), event("audit", "/messages/{messageID}", "../x", &Value::Null, "*/*")).await;
    assert_eq!((status, problem(&body)), (400, "invalid-query"));
    let answer = world.query().run(&Bytes::from_static(b"no event")).await;
    assert_eq!(answer.status_code, 400);
}
