//! Checks that no secret was written by the tests before this one: it searches every log, item, stored object, workflow
//! history and message that they have caused.

use custody_e2e::{Stack, run_support_script, variable};
use custody_test_client::records::{Kind, Record, Size};

#[tokio::test]
async fn neither_keys_nor_credentials_occur_in_anything_that_was_written() {
    let stack = Stack::under_test().await;
    // One good record and one rejected request, in case this test runs alone.
    let record = Record::generate(Kind::Text, Size::Bytes(5_000), 601);
    let receipt = stack.sender.send(&record).await.unwrap().receipt;
    stack.follow(receipt.message_id).await.unwrap();
    let secret_headers = [
        ("authorization", "Bearer an-authorization-secret"),
        ("cookie", "session=a-cookie-secret"),
        ("x-auth-token", "a-custom-header-secret"),
    ];
    let answer = stack.sender.post(&secret_headers, "not JSON").await.unwrap();
    assert_eq!(answer.status, 400);
    let request_id =
        answer.json()["instance"].as_str().unwrap().trim_start_matches("urn:custody:request:").to_owned();
    stack.rejected_request(|dead_letter| dead_letter["request"]["requestId"] == request_id).await.unwrap();

    let secrets = [
        stack.deployment.api_key.clone(),
        variable("CUSTODY_CACHE_PASSWORD"),
        variable("CUSTODY_CACHE_ADMIN_PASSWORD"),
        "an-authorization-secret".to_owned(),
        "a-cookie-secret".to_owned(),
        "a-custom-header-secret".to_owned(),
    ];
    let search = |messages: &str, secrets: &[String]| {
        let output = |name| stack.deployment.output(name).unwrap();
        let arguments = [
            messages,
            output("TableName"),
            output("FailedBucket"),
            output("MarkerBucket"),
            output("StateMachineArn"),
        ];
        run_support_script("find_secrets.py", &arguments, &secrets.join("\n")).unwrap()
    };
    let messages = format!("{}/messages-seen.log", variable("CUSTODY_STACK_FOLDER"));
    let report = search(&messages, &secrets);
    assert!(!report.contains("FOUND"), "{report}");
    for kind in ["log line", "item", "stored object", "execution", "message"] {
        assert!(report.contains(kind), "nothing of kind `{kind}` was searched: {report}");
    }

    // Checks that the search finds what is there: the record's id is in all of these places except the stored objects,
    // which contain the id of the rejected request.
    let found = search(&messages, &[receipt.message_id.to_string(), request_id]);
    for kind in ["log line", "item", "stored object", "execution", "message"] {
        assert!(
            found.lines().any(|line| line.starts_with("FOUND") && line.contains(kind)),
            "{kind}: {found}"
        );
    }
}
