//! What each role of the template may do, and what it may not: the calls are made on the local stack, which enforces policies.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;

use custody_e2e::{Stack, run_custody_as, run_support_script, stack_output};
use custody_test_client::records::{Kind, Record, Size};
use serde_json::{Value, json};

/// A call that does harm in the wrong hands. Each has parameters with which it has no effect even if it is allowed.
const CALLS: [&str; 19] = [
    "read the archive",
    "write to the archive",
    "write manifests",
    "delete from the archive",
    "read preserved payloads",
    "write preserved payloads",
    "delete preserved payloads",
    "read staged payloads",
    "read items",
    "complete items",
    "note when items were stored",
    "delete items",
    "open records",
    "clear open records",
    "read dead letters",
    "send dead letters",
    "announce",
    "give rights",
    "log in to the cache as ingest",
];

/// The parameters of a call.
fn call(name: &str) -> Value {
    let output = stack_output;
    let key = json!({"messageID": {"S": "nobody"}});
    let object = |bucket: &str, key: &str| json!({"Bucket": output(bucket), "Key": key});
    // S3 refuses this digest, so nothing is stored.
    let put = |bucket: &str, key: &str| json!({"Bucket": output(bucket), "Key": key, "Body": "x", "IfNoneMatch": "*", "ChecksumSHA256": "AAAA"});
    let update = |attribute: &str| {
        json!({"TableName": output("TableName"), "Key": key, "UpdateExpression": "SET #attribute = :a",
            "ConditionExpression": "attribute_exists(messageID)",
            "ExpressionAttributeNames": {"#attribute": attribute}, "ExpressionAttributeValues": {":a": {"S": "b"}}})
    };
    let (service, operation, parameters) = match name {
        "read the archive" => ("s3", "get_object", object("ArchiveBucket", "2026/nothing")),
        "write to the archive" => ("s3", "put_object", put("ArchiveBucket", "2026/nothing")),
        "write manifests" => ("s3", "put_object", put("ArchiveBucket", "manifests/2026/nothing")),
        "delete from the archive" => ("s3", "delete_object", object("ArchiveBucket", "2026/nothing")),
        "read preserved payloads" => ("s3", "get_object", object("FailedBucket", "records/nothing")),
        "write preserved payloads" => ("s3", "put_object", put("FailedBucket", "records/nothing")),
        "delete preserved payloads" => ("s3", "delete_object", object("FailedBucket", "records/nothing")),
        "read staged payloads" => ("s3", "get_object", object("StagingBucket", "uploads/nothing")),
        "read items" => ("dynamodb", "get_item", json!({"TableName": output("TableName"), "Key": key})),
        "complete items" => ("dynamodb", "update_item", update("status")),
        "note when items were stored" => ("dynamodb", "update_item", update("metaDataStoredAt")),
        "delete items" => ("dynamodb", "delete_item", json!({"TableName": output("TableName"), "Key": key})),
        "open records" => (
            "dynamodb",
            "put_item",
            json!({"TableName": output("OpenTableName"), "Item": key,
                "ConditionExpression": "attribute_exists(messageID)"}),
        ),
        "clear open records" => {
            ("dynamodb", "delete_item", json!({"TableName": output("OpenTableName"), "Key": key}))
        }
        "read dead letters" => (
            "sqs",
            "receive_message",
            json!({"QueueUrl": output("DeadLetterQueueUrl"), "VisibilityTimeout": 0}),
        ),
        // SQS refuses a character that XML does not allow.
        "send dead letters" => {
            ("sqs", "send_message", json!({"QueueUrl": output("DeadLetterQueueUrl"), "MessageBody": ""}))
        }
        "announce" => ("sns", "publish", json!({"TopicArn": output("TopicArn"), "Message": ""})),
        "give rights" => (
            "dynamodb",
            "put_item",
            json!({"TableName": output("AccessTableName"), "Item": {"credential": {"S": "nobody"}},
                "ConditionExpression": "attribute_exists(credential)"}),
        ),
        "log in to the cache as ingest" => {
            ("secretsmanager", "get_secret_value", json!({"SecretId": output("IngestCacheSecretArn")}))
        }
        _ => unreachable!("{name} is not in the list of calls"),
    };
    json!([service, operation, parameters])
}

/// Makes calls with a role, or with a policy in its place. Returns whether each is allowed.
fn are_allowed(arguments: &[&str], calls: &[Value]) -> Vec<bool> {
    let input = serde_json::to_string(calls).unwrap();
    let printed = run_support_script("calls_as.py", arguments, &input).unwrap();
    let results: Vec<String> = serde_json::from_str(&printed).unwrap();
    results.iter().map(|result| result == "allowed").collect()
}

/// The role of a function, from its logical name.
async fn role_of(stack: &Stack, function: &str) -> String {
    let name = stack_output(&format!("{function}FunctionName"));
    let configuration =
        stack.deployment.aws.lambda().get_function_configuration().function_name(name).send().await;
    configuration.unwrap().role().unwrap().to_owned()
}

#[tokio::test]
async fn a_function_may_do_what_it_is_for_and_none_of_the_rest() {
    let stack = Stack::under_test().await;
    let functions: [(&str, &[&str]); 10] = [
        (
            "Ingest",
            &[
                // To compare the digest of an object that exists already: S3 has no permission for digests alone.
                "read the archive",
                "write to the archive",
                "write preserved payloads",
                "read staged payloads",
                "open records",
                "send dead letters",
                "log in to the cache as ingest",
            ],
        ),
        // It signs links to payloads, which open what it may read.
        ("Query", &["read the archive", "read preserved payloads", "read items"]),
        ("Upload", &["read the archive", "write to the archive", "read staged payloads", "open records"]),
        ("Authorizer", &[]),
        (
            "Archive",
            &["read the archive", "write to the archive", "write manifests", "read preserved payloads"],
        ),
        ("Metadata", &["note when items were stored"]),
        ("Aggregate", &["complete items"]),
        (
            "Failure",
            &[
                "read the archive",
                "read preserved payloads",
                "write preserved payloads",
                "complete items",
                "note when items were stored",
                "open records",
                "send dead letters",
                "announce",
            ],
        ),
        (
            "Reconcile",
            &[
                "read the archive",
                "read preserved payloads",
                "read items",
                "open records",
                "clear open records",
                "announce",
            ],
        ),
        ("Redrive", &["read items", "open records", "send dead letters"]),
    ];
    let calls = CALLS.map(call);
    for (function, expected) in functions {
        let allowed = are_allowed(&["--copy", &role_of(&stack, function).await], &calls);
        let allowed: BTreeSet<_> =
            CALLS.into_iter().zip(allowed).filter_map(|(call, allowed)| allowed.then_some(call)).collect();
        // Items are read in batches, which is a permission of its own.
        let batches = |call: &&str| !(["Reconcile", "Redrive"].contains(&function) && *call == "read items");
        let expected: BTreeSet<_> = expected.iter().copied().filter(batches).collect();
        assert_eq!(allowed, expected, "{function}");
    }
}

#[tokio::test]
async fn an_auditor_reads_everything_and_changes_nothing() {
    let auditor = |arguments: &[&str]| run_custody_as("AuditorRoleArn", arguments).0;
    for reading in [&["open"][..], &["failed"], &["fsck"]] {
        assert_eq!(auditor(reading), 0, "{reading:?}");
    }
    assert_eq!(auditor(&["find", "--source", "nobody"]), 3, "there is no such record");
    let stack = Stack::under_test().await;
    let record = Record::generate(Kind::Random, Size::Bytes(1000), 77);
    let id = stack.sender.send(&record).await.unwrap().receipt.message_id;
    stack.follow(id).await.unwrap();
    assert_eq!(auditor(&["trace", &id.to_string()]), 0);
    // Other suites may leave disagreements; 4 would be a denied read.
    assert!([0, 1].contains(&auditor(&["fsck", "--full"])));
    assert_eq!(run_custody_as("OperatorRoleArn", &["find", "--source", "nobody"]).0, 3);
    let changes = [
        &["dlq", "list"][..],
        &["dlq", "redrive", "--all"],
        &["producer", "add", "an-auditors-friend", "--source", "*"],
        &["producer", "list"],
        &["watch", "--count", "1"],
    ];
    for change in changes {
        assert_eq!(auditor(change), 4, "{change:?}");
    }
    // With a copy of the role: these calls are not what the role is used for.
    let allowed = are_allowed(&["--copy", &stack_output("AuditorRoleArn")], &CALLS.map(call));
    let allowed: Vec<_> =
        CALLS.into_iter().zip(allowed).filter_map(|(call, is)| is.then_some(call)).collect();
    assert_eq!(allowed, ["read the archive", "read preserved payloads", "read items"]);
}

#[tokio::test]
async fn an_operator_decides_about_records_and_touches_no_archived_payload() {
    let allowed = are_allowed(&["--copy", &stack_output("OperatorRoleArn")], &CALLS.map(call));
    let denied: Vec<_> =
        CALLS.into_iter().zip(allowed).filter_map(|(call, is)| (!is).then_some(call)).collect();
    let expected = [
        "write to the archive",
        "write manifests",
        "delete from the archive",
        "write preserved payloads",
        "delete preserved payloads",
        "read staged payloads",
        "note when items were stored",
        "delete items",
        "open records",
        "clear open records",
        "send dead letters",
        "announce",
        "log in to the cache as ingest",
    ];
    assert_eq!(denied, expected);
}

/// The policy of somebody who may do everything in the account.
const ADMINISTRATOR: &str =
    r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#;

#[tokio::test]
async fn not_even_an_administrator_replaces_or_unlocks_an_archived_payload() {
    let bucket = stack_output("ArchiveBucket");
    let put = |more: Value| {
        let mut parameters =
            json!({"Bucket": bucket, "Key": "nothing", "Body": "x", "ChecksumSHA256": "AAAA"});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!(["s3", "put_object", parameters])
    };
    let version =
        json!({"Bucket": bucket, "Key": "nothing", "VersionId": "1", "BypassGovernanceRetention": true});
    let lifecycle = json!({"Rules": [{"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]});
    let calls = [
        ("a conditional put", true, put(json!({"IfNoneMatch": "*"}))),
        ("a put that replaces", false, put(json!({}))),
        (
            "a put with another encryption",
            false,
            put(json!({"IfNoneMatch": "*", "ServerSideEncryption": "aws:kms"})),
        ),
        (
            "a put with this encryption",
            true,
            put(json!({"IfNoneMatch": "*", "ServerSideEncryption": "AES256"})),
        ),
        ("the end of a lock", false, json!(["s3", "delete_object", version])),
        (
            "a shorter lock",
            false,
            json!(["s3", "put_object_retention", {"Bucket": bucket, "Key": "nothing", "BypassGovernanceRetention": true,
                "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"}}]),
        ),
        (
            "an expiry of payloads",
            false,
            json!(["s3", "put_bucket_lifecycle_configuration", {"Bucket": bucket, "LifecycleConfiguration": lifecycle}]),
        ),
        (
            "an end of versions",
            false,
            json!(["s3", "put_bucket_versioning",
                {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}]),
        ),
        (
            "an end of locks",
            false,
            json!(["s3", "put_object_lock_configuration",
                {"Bucket": bucket, "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}]),
        ),
        ("an end of the archive", false, json!(["s3", "delete_bucket", {"Bucket": bucket}])),
    ];
    let allowed = are_allowed(&["--policy", ADMINISTRATOR], &calls.clone().map(|(_, _, call)| call));
    for ((name, expected, _), allowed) in calls.into_iter().zip(allowed) {
        assert_eq!(allowed, expected, "{name}");
    }
}

#[tokio::test]
async fn broken_glass_needs_a_second_factor_and_then_ends_locks() {
    let (role, bucket) = (stack_output("BreakGlassRoleArn"), stack_output("ArchiveBucket"));
    let printed = run_support_script("break_glass.py", &[&role, &bucket], "").unwrap();
    let results: Value = serde_json::from_str(&printed).unwrap();
    let expected = json!({
        "without a second factor": "denied",
        "end a lock": "allowed",
        "change a setting": "allowed",
        "replace an object": "denied",
    });
    assert_eq!(results, expected);
}
