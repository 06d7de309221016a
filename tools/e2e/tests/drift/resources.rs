//! Queues, alarms, tables and buckets of the template agree with the code.

use super::*;

#[test]
fn the_redrive_queue_is_wired_for_redrives_by_hand_by_itself_and_by_sqs() {
    let template = template();
    let resources = &template["Resources"];
    let queue = &resources["RedriveQueue"]["Properties"];
    // StartMessageMoveTask takes only a source that is the dead-letter queue of another queue.
    assert_eq!(queue["RedrivePolicy"]["deadLetterTargetArn"].as_str(), Some("DeadLetterQueue.Arn"));
    let function = &functions(&template)["redrive"]["Properties"];
    let source = &function["Events"]["Redrives"]["Properties"];
    assert_eq!(source["Queue"].as_str(), Some("RedriveQueue.Arn"));
    assert_eq!(source["FunctionResponseTypes"][0].as_str(), Some("ReportBatchItemFailures"));
    assert!(source["ScalingConfig"]["MaximumConcurrency"].as_i64().is_some_and(|limit| limit >= 2));
    // AWS recommends at least six times the function's timeout, so that no message is delivered again while it is
    // processed.
    let (visibility, timeout) =
        (queue["VisibilityTimeout"].as_i64().unwrap(), function["Timeout"].as_i64().unwrap());
    assert!(visibility >= 6 * timeout, "{visibility} s for a function that takes {timeout} s");
    // Lambda treats 16 passes of a message through queues and functions as a loop, and drops the batch.
    let receives = queue["RedrivePolicy"]["maxReceiveCount"].as_i64().unwrap();
    let redrives = template["Parameters"]["RedriveMaxAttempts"]["MaxValue"].as_i64().unwrap();
    assert!(receives < 16 && redrives < 16);
}

#[test]
fn the_alarms_watch_metrics_that_are_written() {
    let template = template();
    let alarm = |name: &str| template["Resources"][name]["Properties"].clone();
    let open = alarm("OpenRecordAlarm");
    assert_eq!(open["Namespace"].as_str(), Some(metrics::NAMESPACE));
    assert_eq!(open["MetricName"].as_str(), Some(metrics::OLDEST_OPEN_AGE.name));
    assert_eq!(open["TreatMissingData"].as_str(), Some("breaching"), "missing data raises the alarm");
    assert_eq!(alarm("FailedRecordAlarm")["MetricName"].as_str(), Some(metrics::FAILED_RECORDS.name));
    assert_eq!(alarm("StuckAlarm")["MetricName"].as_str(), Some(metrics::STUCK.name));
    let left = &alarm("RedriveErrorAlarm")["Metrics"][2]["MetricStat"]["Metric"]["Dimensions"];
    assert_eq!(left[2]["Value"].as_str(), Some(metrics::LEFT_ON_THE_QUEUE));
    assert_eq!(alarm("FallbackAlarm")["MetricName"].as_str(), Some(metrics::FALLBACKS.name));
}

#[test]
fn the_bus_gets_the_type_the_source_and_the_time_of_a_notification() {
    let message = custody_core::testing::samples::message(b"payload");
    let failure = custody_core::dead_letter::FailureSummary {
        attempt: 1,
        stage: "archive".to_owned(),
        kind: ErrorKind::Internal,
        error_name: "AccessDenied".to_owned(),
        reason: "denied".to_owned(),
        failed_at: message.begun_at(),
        execution_arn: None,
        payload_reference: None,
        failures: Vec::new(),
    };
    let event =
        custody_core::notification::Notification::failed("urn:custody:custody", &message, &failure).body;
    let template = template();
    let parameters = &template["Resources"]["BusPipe"]["Properties"]["TargetParameters"];
    let bus = &parameters["EventBridgeEventBusParameters"];
    for (parameter, value) in [
        ("DetailType", "custody.message.failed.v1"),
        ("Source", "urn:custody:custody"),
        ("Time", event["time"].as_str().unwrap()),
    ] {
        let path = bus[parameter].as_str().unwrap().strip_prefix("$.body.").unwrap();
        assert_eq!(event[path].as_str(), Some(value), "{parameter}");
    }
    assert_eq!(parameters["InputTemplate"].as_str(), Some("<$.body>"), "the detail is the whole event");
}

#[test]
fn the_index_of_open_records_and_the_expiry_of_claims_are_those_of_the_code() {
    let template = template();
    let open = &template["Resources"]["OpenRecordTable"]["Properties"];
    let index = &open["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexName"].as_str(), Some(DUE_INDEX));
    let projected = index["Projection"]["NonKeyAttributes"].as_vec().unwrap();
    assert_eq!(projected, &[Yaml::String(stored_names::attributes::ACCEPTED_AT.to_owned())]);
    assert!(open["TimeToLiveSpecification"].is_badvalue(), "open records do not expire");
    for table in ["IdempotencyTable", "UploadTable"] {
        let table = &template["Resources"][table]["Properties"];
        let attribute = table["TimeToLiveSpecification"]["AttributeName"].as_str();
        assert_eq!(attribute, Some(stored_names::attributes::TIME_TO_LIVE));
    }
}

#[test]
fn a_receipt_names_the_durability_that_is_in_effect() {
    let template = template();
    let of_cache = functions(&template).into_values().filter_map(|function| {
        let durability = &function["Properties"]["Environment"]["Variables"]["CACHE_DURABILITY"];
        durability.as_str().map(str::to_owned)
    });
    let all: Vec<_> = of_cache.collect();
    assert_eq!(all, vec!["CacheReplicationGroup.EffectiveDurability"; 5], "not the requested one");
    let cache = &template["Resources"]["CacheReplicationGroup"]["Properties"];
    let asked_for = cache["Durability"].as_vec().expect("the template names the durability levels");
    assert!(asked_for.iter().all(|value| value.as_str() != Some("default")));
}

#[test]
fn tables_and_their_indexes_can_be_warmed() {
    let template = template();
    for table in ["RecordTable", "OpenRecordTable", "IdempotencyTable", "UploadTable"] {
        let table = &template["Resources"][table]["Properties"];
        let indexes = table["GlobalSecondaryIndexes"].as_vec().map_or(&[][..], Vec::as_slice);
        for part in indexes.iter().chain([table]) {
            assert!(!part["WarmThroughput"].is_badvalue(), "{part:?}");
        }
    }
}

#[test]
fn rejected_requests_expire_and_payloads_of_failed_records_do_not() {
    let template = template();
    let rules = &template["Resources"]["FailedBucket"]["Properties"]["LifecycleConfiguration"]["Rules"];
    let expiring: Vec<_> = rules
        .as_vec()
        .unwrap()
        .iter()
        .filter(|rule| !rule["ExpirationInDays"].is_badvalue())
        .map(|rule| (rule["Prefix"].as_str().unwrap(), rule["ExpirationInDays"].as_i64().unwrap()))
        .collect();
    assert_eq!(expiring, [(stored_names::REJECTED_PREFIX, 30)]);
}

#[test]
fn the_keys_of_tables_and_indexes_are_the_attributes_that_the_code_writes() {
    use stored_names::attributes as attribute;
    let template = template();
    let keys = |schema: &Yaml| -> Vec<String> {
        let keys = schema.as_vec().into_iter().flatten();
        keys.map(|key| key["AttributeName"].as_str().unwrap().to_owned()).collect()
    };
    for (table, expected) in [
        (
            "RecordTable",
            vec![
                vec![attribute::MESSAGE_ID],
                vec![attribute::SOURCE_PARTITION, attribute::RECEIVED_AT],
                vec![attribute::SOURCE_TRANSACTION_ID, attribute::RECEIVED_AT],
            ],
        ),
        (
            "OpenRecordTable",
            vec![vec![attribute::MESSAGE_ID], vec![attribute::PARTITION, attribute::LOOK_AT]],
        ),
        ("IdempotencyTable", vec![vec![attribute::IDEMPOTENCY_KEY]]),
        ("AccessTable", vec![vec![attribute::CREDENTIAL]]),
        ("UploadTable", vec![vec![attribute::UPLOAD]]),
    ] {
        let properties = &template["Resources"][table]["Properties"];
        let mut schemas = vec![keys(&properties["KeySchema"])];
        let indexes = properties["GlobalSecondaryIndexes"].as_vec().into_iter().flatten();
        schemas.extend(indexes.map(|index| keys(&index["KeySchema"])));
        assert_eq!(schemas, expected, "{table}");
    }
    let [by_source, by_transaction] = [0, 1]
        .map(|index| &template["Resources"]["RecordTable"]["Properties"]["GlobalSecondaryIndexes"][index]);
    for (index, missing) in [(by_source, None), (by_transaction, Some(attribute::SOURCE_TRANSACTION_ID))] {
        let projected: Vec<_> = index["Projection"]["NonKeyAttributes"].as_vec().unwrap().iter().collect();
        for name in [
            attribute::SOURCE_SYSTEM_ID,
            attribute::SOURCE_TRANSACTION_ID,
            attribute::MESSAGE_TYPE,
            attribute::STATUS,
        ] {
            let is_projected = projected.iter().any(|attribute| attribute.as_str() == Some(name));
            assert!(is_projected || missing == Some(name), "a list shows {name}");
        }
    }
}

#[test]
fn a_plan_knows_the_limits_of_the_template() {
    let template = template();
    let default = |name: &str| template["Parameters"][name]["Default"].as_i64();
    assert_eq!(default("StageRateLimit"), Some(i64::from(custody_plan::REQUESTS_OF_A_STAGE)));
    assert_eq!(default("StageBurstLimit"), Some(i64::from(custody_plan::simulation::REQUESTS_AT_ONCE)));
    assert_eq!(default("ReconcileStarts"), Some(i64::from(custody_plan::simulation::STARTS_OF_A_RUN)));
    assert_eq!(default("ReconcileAfterSeconds"), Some(i64::from(custody_plan::simulation::FIRST_LOOK)));
    let reserved = functions(&template).into_values().filter_map(|function| {
        // The authorizer exists with `TokenIssuer` only.
        if !function["Condition"].is_badvalue() {
            return None;
        }
        // `!If [ReservesConcurrency, number or parameter, none]`.
        let reserved = &function["Properties"]["ReservedConcurrentExecutions"][1];
        reserved.as_i64().or_else(|| default(reserved.as_str()?))
    });
    assert_eq!(reserved.sum::<i64>(), i64::from(custody_plan::RESERVED));
}

#[test]
fn the_stack_policy_protects_every_store_that_outlives_the_stack() {
    // CloudFormation refuses a policy that names a resource which a condition leaves out.
    let template = template();
    let resources = template["Resources"].as_hash().unwrap();
    let stores =
        ["AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::ElastiCache::ReplicationGroup"];
    let outlive = resources.iter().filter(|(_, resource)| {
        !resource["DeletionPolicy"].is_badvalue()
            && resource["Condition"].is_badvalue()
            && stores.contains(&resource["Type"].as_str().unwrap())
    });
    let outlive: Names =
        outlive.map(|(name, _)| format!("LogicalResourceId/{}", name.as_str().unwrap())).collect();
    let policy = fs::read_to_string(root().join("docs/stack-policy.json")).unwrap();
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let protected = policy["Statement"][1]["Resource"].as_array().unwrap().iter();
    assert_eq!(protected.map(|name| name.as_str().unwrap().to_owned()).collect::<Names>(), outlive);
}

#[test]
fn everything_that_is_stored_is_encrypted_with_the_key_of_the_deployment() {
    /// The property that names the key, for each type of store.
    const KEYS: [(&str, &[&str]); 7] = [
        (
            "AWS::S3::Bucket",
            &[
                "BucketEncryption",
                "ServerSideEncryptionConfiguration",
                "0",
                "ServerSideEncryptionByDefault",
                "KMSMasterKeyID",
            ],
        ),
        ("AWS::DynamoDB::Table", &["SSESpecification", "Fn::If", "1", "KMSMasterKeyId"]),
        ("AWS::SQS::Queue", &["KmsMasterKeyId"]),
        ("AWS::SNS::Topic", &["KmsMasterKeyId"]),
        ("AWS::Logs::LogGroup", &["KmsKeyId"]),
        ("AWS::SecretsManager::Secret", &["KmsKeyId"]),
        ("AWS::ElastiCache::ReplicationGroup", &["KmsKeyId"]),
    ];
    let template = template();
    let mut seen = Names::new();
    for (name, resource) in template["Resources"].as_hash().unwrap() {
        let Some((kind, path)) = KEYS.into_iter().find(|(kind, _)| resource["Type"].as_str() == Some(*kind))
        else {
            continue;
        };
        let key = path.iter().fold(&resource["Properties"], |yaml, part| match part.parse::<usize>() {
            Ok(index) => &yaml[index],
            Err(_) => &yaml[*part],
        });
        // The key itself, or `!If [HasKey, the key, what else]`.
        let names_the_key = key.as_str() == Some("KmsKeyArn")
            || (key[0].as_str(), key[1].as_str()) == (Some("HasKey"), Some("KmsKeyArn"));
        assert!(names_the_key, "{}: {key:?}", name.as_str().unwrap());
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen.len(), KEYS.len());
}

#[test]
fn functions_and_cache_are_in_the_network_that_was_given() {
    let template = template();
    let subnets = &template["Resources"]["CacheSubnetGroup"]["Properties"]["SubnetIds"];
    assert_eq!(subnets["Fn::If"][0].as_str(), Some("MakesNetwork"));
    assert_eq!(subnets["Fn::If"][2].as_str(), Some("ExistingSubnets"));
    for (name, function) in functions(&template) {
        let vpc = &function["Properties"]["VpcConfig"];
        assert!(vpc.is_badvalue() || vpc["SubnetIds"] == *subnets, "{name}");
    }
    for (name, resource) in template["Resources"].as_hash().unwrap() {
        let kind = resource["Type"].as_str().unwrap();
        let is_network = kind.starts_with("AWS::EC2::") && kind != "AWS::EC2::SecurityGroup";
        let is_made = resource["Condition"].as_str() == Some("MakesNetwork");
        assert!(!is_network || is_made, "{} is made in a given network too", name.as_str().unwrap());
    }
}

#[test]
fn dashboard_and_alarms_name_metrics_that_functions_write_and_every_alarm_tells_somebody() {
    let template = template();
    let resources = template["Resources"].as_hash().unwrap();
    let dashboard = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"];
    // The alarms that not every deployment has are in variables of the text, with the condition.
    let mut text = dashboard[0].as_str().unwrap().to_owned();
    for (variable, value) in dashboard[1].as_hash().unwrap() {
        let variable = format!("${{{}}}", variable.as_str().unwrap());
        text = text.replace(&variable, value[1].as_str().unwrap());
    }
    let dashboard = text;
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let mut named = Names::new();
    let mut shown_alarms = Names::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        let properties = &widget["properties"];
        let arns = properties["alarms"].as_array().into_iter().flatten();
        shown_alarms.extend(
            arns.map(|arn| {
                arn.as_str().unwrap().trim_start_matches("${").trim_end_matches(".Arn}").to_owned()
            }),
        );
        // `.` repeats the namespace of the line before.
        let mut namespace = "";
        for line in properties["metrics"].as_array().into_iter().flatten() {
            match line[0].as_str() {
                Some(".") => {}
                Some(text) => namespace = text,
                None => {
                    named.extend(metric_of_search(line[0]["expression"].as_str().unwrap()));
                    continue;
                }
            }
            if namespace == metrics::NAMESPACE {
                named.insert(line[1].as_str().unwrap().to_owned());
            }
        }
    }
    let (mut alarms, mut alarms_of_every_deployment) = (Names::new(), 0);
    for (name, resource) in resources {
        if resource["Type"].as_str() != Some("AWS::CloudWatch::Alarm") {
            continue;
        }
        let (name, properties) = (name.as_str().unwrap(), &resource["Properties"]);
        assert!(
            !properties["AlarmActions"].is_badvalue() && !properties["OKActions"].is_badvalue(),
            "{name}"
        );
        if properties["Namespace"].as_str() == Some(metrics::NAMESPACE) {
            named.insert(properties["MetricName"].as_str().unwrap().to_owned());
        }
        alarms.insert(name.to_owned());
        alarms_of_every_deployment += u32::from(resource["Condition"].is_badvalue());
    }
    assert_eq!(shown_alarms, alarms, "the dashboard shows every alarm");
    assert_eq!(alarms_of_every_deployment, custody_plan::ALARMS, "a plan counts them");
    let written: Names = metrics::METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(named, written, "every metric is shown, and every shown metric is written");
}

/// Returns the metric of Custody that an expression searches for. Its dimensions must be those that functions write.
fn metric_of_search(expression: &str) -> Option<String> {
    let (schema, rest) = expression.strip_prefix("SEARCH('{")?.split_once('}')?;
    let mut schema = schema.split(',');
    if schema.next() != Some(metrics::NAMESPACE) {
        return None;
    }
    let name = rest.split('"').nth(1)?;
    let metric = metrics::METRICS.iter().find(|metric| metric.name == name).expect(name);
    let dimensions: Vec<_> = ["Stack"].iter().chain(metric.dimensions).copied().collect();
    assert_eq!(schema.collect::<Vec<_>>(), dimensions, "{name}");
    Some(name.to_owned())
}

#[test]
fn every_alarm_names_its_runbook_which_says_what_it_means_what_to_do_and_when_it_is_over() {
    let template = template();
    let resources = template["Resources"].as_hash().unwrap();
    let alarms =
        resources.iter().filter(|(_, resource)| resource["Type"].as_str() == Some("AWS::CloudWatch::Alarm"));
    let index = fs::read_to_string(root().join("docs/runbooks/README.md")).unwrap();
    let mut pages = Names::from(["README.md".to_owned()]);
    for (name, alarm) in alarms {
        let name = name.as_str().unwrap();
        let page = format!("docs/runbooks/{name}.md");
        let description = alarm["Properties"]["AlarmDescription"].as_str().unwrap();
        assert!(description.ends_with(&format!("Runbook: {page}")), "{name}: {description}");
        let text = fs::read_to_string(root().join(&page)).expect(&page);
        let mut sections = text.lines().filter(|line| line.starts_with('#'));
        let expected =
            [format!("# {name}"), "## Look".to_owned(), "## Mend".to_owned(), "## It is over".to_owned()];
        // A page may go on with what is rare.
        assert!(sections.by_ref().take(expected.len()).eq(expected), "{page}");
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
        pages.insert(format!("{name}.md"));
    }
    let files = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let files: Names = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, pages, "each page is of an alarm");
}
