//! The state machine agrees with code and template.

use super::*;

#[test]
fn every_substitution_is_used_and_every_use_is_substituted() {
    let template = template();
    let set = keys(&template["Resources"]["RecordStateMachine"]["Properties"]["DefinitionSubstitutions"]);
    let text = state_machine_text();
    let used: Names = text
        .split("${")
        .skip(1)
        .map(|rest| rest[..rest.find('}').expect("a substitution ends")].to_owned())
        .collect();
    assert_eq!(set, used);
}

/// Calls `visit` with every state of a machine and of the machines inside it, by name.
fn visit_states(machine: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (name, state) in machine["States"].as_object().unwrap() {
        visit(name, state);
        for branch in state["Branches"].as_array().into_iter().flatten() {
            visit_states(branch, visit);
        }
    }
}

fn texts(values: &Value) -> Vec<&str> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_transition_leads_to_a_state_and_every_state_is_reached() {
    fn check(machine: &Value) {
        let states = machine["States"].as_object().unwrap();
        let mut reached: BTreeSet<&str> = BTreeSet::from([machine["StartAt"].as_str().unwrap()]);
        for (name, state) in states {
            let choices = state["Choices"].as_array().into_iter().flatten();
            let catches = state["Catch"].as_array().into_iter().flatten();
            let targets =
                choices.chain(catches).map(|rule| &rule["Next"]).chain([&state["Next"], &state["Default"]]);
            reached.extend(targets.filter_map(Value::as_str));
            let ends = state["End"] == true || ["Succeed", "Fail"].contains(&state["Type"].as_str().unwrap());
            assert!(
                ends || state["Next"].is_string() || state["Default"].is_string(),
                "`{name}` leads nowhere"
            );
            state["Branches"].as_array().into_iter().flatten().for_each(check);
        }
        assert_eq!(reached, states.keys().map(String::as_str).collect());
    }
    check(&state_machine());
}

#[test]
fn every_task_is_bounded_retries_and_catches_everything() {
    visit_states(&state_machine(), &mut |name, state| {
        if state["Type"] != "Task" {
            return;
        }
        assert!(state["TimeoutSeconds"].is_u64(), "`{name}` has no TimeoutSeconds");
        for retry in state["Retry"].as_array().expect(name) {
            assert!(retry["MaxDelaySeconds"].is_u64(), "`{name}` retries without MaxDelaySeconds");
            assert_eq!(retry["JitterStrategy"], "FULL", "`{name}`");
            assert!(
                !texts(&retry["ErrorEquals"]).contains(&"States.ALL"),
                "`{name}` retries what is permanent"
            );
        }
        let last = state["Catch"].as_array().expect(name).last().expect(name);
        assert_eq!(texts(&last["ErrorEquals"]), ["States.ALL"], "`{name}`");
    });
}

/// The waits are random between zero and the shown delays, so half of their sum is what a function has on average.
#[test]
fn a_function_that_was_idle_for_weeks_gets_a_minute_and_a_half_to_become_ready() {
    visit_states(&state_machine(), &mut |name, state| {
        if state["Arguments"]["FunctionName"].is_null() {
            return;
        }
        let first = &state["Retry"][0];
        assert_eq!(texts(&first["ErrorEquals"]), FUNCTION_NOT_READY, "`{name}`");
        let number = |field: &str| first[field].as_f64().expect(field);
        let mut delay = number("IntervalSeconds");
        let mut longest_wait = 0.0;
        for _ in 0..first["MaxAttempts"].as_u64().expect("MaxAttempts") {
            longest_wait += delay.min(number("MaxDelaySeconds"));
            delay *= number("BackoffRate");
        }
        assert!(longest_wait / 2.0 > 90.0, "`{name}` waits for {longest_wait} s at most");
    });
    assert!(FUNCTION_NOT_READY.iter().all(|error| TRANSIENT_PLATFORM_ERRORS.contains(error)));
}

#[test]
fn retried_errors_are_exactly_the_transient_errors_of_the_code() {
    let transient = BTreeMap::from([
        ("ArchiveFunction", archive::TRANSIENT),
        ("MetadataFunction", metadata::TRANSIENT),
        ("AggregateFunction", aggregate::TRANSIENT),
        ("FailureFunction", failure::TRANSIENT),
    ]);
    let mut seen = Names::new();
    visit_states(&state_machine(), &mut |name, state| {
        let retried: BTreeSet<&str> = state["Retry"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|retry| texts(&retry["ErrorEquals"]))
            .collect();
        let (ours, platform): (BTreeSet<_>, BTreeSet<_>) =
            retried.iter().partition(|name| ErrorName::from_name(name).is_some());
        for error in &platform {
            assert!(
                TRANSIENT_PLATFORM_ERRORS.contains(error),
                "`{name}` retries {error}, which the code does not know"
            );
        }
        let function =
            state["Arguments"]["FunctionName"].as_str().map(|text| text.trim_matches(['$', '{', '}']));
        let expected: BTreeSet<&str> = function.map_or_else(BTreeSet::new, |function| {
            seen.insert(function.to_owned());
            transient[function].iter().map(|name| name.as_str()).collect()
        });
        assert_eq!(ours, expected, "`{name}`");
        for error in ours {
            assert_eq!(
                ErrorName::from_name(error).unwrap().kind(),
                ErrorKind::Transient,
                "`{name}`: {error}"
            );
        }
    });
    assert_eq!(seen, transient.keys().map(|name| (*name).to_owned()).collect::<Names>());
}

#[test]
fn stages_are_named_alike_in_code_template_and_state_machine() {
    let text = state_machine_text();
    for stage in ["archive", "metadata", "aggregate"] {
        assert!(
            text.contains(&format!("\"stage\": \"{stage}\"")),
            "the state machine does not name stage {stage}"
        );
        assert!(folders_of_functions().contains(stage));
    }
}

#[test]
fn every_failure_leads_through_the_failure_function_to_a_fail_state() {
    let machine = state_machine();
    let states = machine["States"].as_object().unwrap();
    for (name, expected) in [
        ("Process record", "Handle failure"),
        ("Aggregate record", "Handle failure"),
        ("Handle failure", "Failure not handled"),
        // An announcement or a close that fails is no failure of the record: reconcile repeats it.
        ("Announce completion", "Leave record open"),
        ("Close record", "Leave record open"),
    ] {
        let catch = states[name]["Catch"].as_array().unwrap().last().unwrap();
        assert_eq!(catch["Next"], expected, "`{name}`");
    }
    let caught = states.values().filter(|state| state["Catch"].is_array()).count();
    assert_eq!(caught, 5, "every state that can fail is listed above");
    let handled = &states["Handle failure"]["Next"];
    let complete = &states[handled.as_str().unwrap()];
    assert_eq!(
        (&complete["Choices"][0]["Next"], &complete["Default"]),
        (&"Record failed".into(), &"Failure unfinished".into())
    );
    for name in ["Record failed", "Failure unfinished", "Failure not handled"] {
        assert_eq!(states[name]["Type"], "Fail", "`{name}`");
    }
}

#[test]
fn a_record_is_closed_only_after_its_completion_was_announced_and_only_by_its_attempt() {
    let machine = state_machine();
    let states = &machine["States"];
    let announced = &states["Is everything announced?"];
    assert_eq!(announced["Choices"][0]["Next"], "Announce completion");
    assert_eq!(announced["Default"], "Leave record open");
    assert_eq!(states["Announce completion"]["Next"], "Close record");
    let mut ways_to_close = Vec::new();
    visit_states(&machine, &mut |name, state| {
        let catches = state["Catch"].as_array().into_iter().flatten();
        let choices = state["Choices"].as_array().into_iter().flatten();
        let all = catches.chain(choices).map(|rule| &rule["Next"]).chain([&state["Next"], &state["Default"]]);
        if all.into_iter().any(|next| next == "Close record") {
            ways_to_close.push(name.to_owned());
        }
    });
    assert_eq!(ways_to_close, ["Announce completion"]);
    let close = &states["Close record"]["Arguments"];
    assert_eq!(close["ConditionExpression"], "attribute_not_exists(messageID) OR attempt = :attempt");
}

#[test]
fn a_branch_turns_its_error_into_a_result_and_an_announcement_never_fails_a_record() {
    let machine = state_machine();
    let branches = machine["States"]["Process record"]["Branches"].as_array().unwrap();
    assert_eq!(branches.len(), 3);
    for branch in branches {
        for (name, state) in
            branch["States"].as_object().unwrap().iter().filter(|(_, state)| state["Type"] == "Task")
        {
            let catch = &state["Catch"][0];
            let kept = branch["States"][catch["Next"].as_str().unwrap()].clone();
            assert_eq!((&kept["Type"], &kept["End"]), (&"Pass".into(), &true.into()), "`{name}`");
            let is_announcement = state["Arguments"]["TopicArn"].is_string();
            assert_eq!(catch["Output"]["ok"], is_announcement, "`{name}`");
            if is_announcement {
                assert_eq!(state["Output"]["published"], true, "`{name}`");
                assert_eq!(catch["Output"]["published"], false, "`{name}`");
                // An announcement after a stage passes the stage's receipt on, whether or not it succeeds.
                let after_stage = branch["StartAt"] != *name;
                let receipt = if after_stage { "{% $states.input %}".into() } else { Value::Null };
                assert_eq!((&state["Output"]["receipt"], &catch["Output"]["receipt"]), (&receipt, &receipt));
            } else {
                assert_eq!(catch["Output"]["failure"]["stage"], catch["Output"]["stage"], "`{name}`");
                assert_eq!(catch["Output"]["receipt"], Value::Null, "`{name}`");
            }
        }
    }
}

#[test]
fn the_role_of_the_workflow_allows_what_its_states_do_and_nothing_else() {
    let mut done = BTreeSet::new();
    visit_states(&state_machine(), &mut |_, state| {
        let Some(integration) = state["Resource"].as_str() else { return };
        let (service, call) = integration.rsplit_once(":::").unwrap().1.split_once(':').unwrap();
        let argument = |name: &str| state["Arguments"][name].as_str().map(str::to_owned);
        let (action, on) = match (service, call) {
            ("lambda", "invoke") => ("lambda:InvokeFunction", argument("FunctionName")),
            ("sns", "publish") => ("sns:Publish", argument("TopicArn")),
            ("dynamodb", "deleteItem") => ("dynamodb:DeleteItem", argument("TableName")),
            _ => panic!("this test does not know the integration {integration}"),
        };
        done.insert((action.to_owned(), on.unwrap().trim_matches(['$', '{', '}']).to_owned()));
    });

    let template = template();
    let resources = &template["Resources"];
    let substitutions = &resources["RecordStateMachine"]["Properties"]["DefinitionSubstitutions"];
    // An ARN in the template is a resource's name, or its name with an attribute. The workflow calls one version of a function, and its
    // role allows every version.
    let resource = |arn: &str| {
        let name = arn.trim_start_matches("${").trim_end_matches(".Arn}:*").trim_end_matches(".Version");
        name.trim_end_matches(".Arn").to_owned()
    };
    let done: BTreeSet<_> = done
        .into_iter()
        .map(|(action, name)| (action, resource(substitutions[name.as_str()].as_str().unwrap())))
        .collect();

    let policy = &resources["RecordStateMachineRole"]["Properties"]["Policies"][0]["PolicyDocument"];
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_vec().unwrap() {
        let sid = statement["Sid"].as_str();
        if sid.is_none() || sid == Some("LogAndTrace") {
            continue;
        }
        let one = std::slice::from_ref(&statement["Resource"]);
        let on = statement["Resource"].as_vec().map_or(one, Vec::as_slice);
        let action = statement["Action"].as_str().expect("a statement allows one action");
        allowed.extend(on.iter().map(|arn| (action.to_owned(), resource(arn.as_str().unwrap()))));
    }
    assert_eq!(allowed, done);
}

#[test]
fn a_simulation_retries_archive_as_the_workflow_does() {
    let machine = state_machine();
    let branches = machine["States"]["Process record"]["Branches"].as_array().unwrap();
    let archive = branches.iter().find_map(|branch| branch["States"].get("Archive payload")).unwrap();
    let retries = archive["Retry"].as_array().unwrap();
    let of_outages = |retrier: &&Value| {
        retrier["ErrorEquals"].as_array().unwrap().contains(&Value::from("ArchiveUnavailable"))
    };
    let found = retries.iter().find(of_outages).unwrap();
    let expected = custody_plan::simulation::RETRIES_OF_ARCHIVE;
    assert_eq!(found["IntervalSeconds"].as_f64(), Some(expected.first_delay));
    assert_eq!(found["MaxDelaySeconds"].as_f64(), Some(expected.longest_delay));
    assert_eq!(found["MaxAttempts"].as_u64(), Some(u64::from(expected.count)));
    assert_eq!((found["BackoffRate"].as_f64(), found["JitterStrategy"].as_str()), (Some(2.0), Some("FULL")));
}

#[test]
fn a_plan_counts_the_transitions_and_the_notifications_of_a_record_that_succeeds() {
    /// Counts the states of a machine that a record enters if everything succeeds, and the notifications among them.
    fn count(machine: &Value) -> (u32, u32) {
        let mut name = machine["StartAt"].as_str().unwrap();
        let (mut entered, mut published) = (0, 0);
        loop {
            let state = &machine["States"][name];
            entered += 1;
            published += u32::from(state["Resource"].as_str().is_some_and(|it| it.ends_with(":sns:publish")));
            for branch in state["Branches"].as_array().into_iter().flatten() {
                let (more, of_them) = count(branch);
                entered += more;
                published += of_them;
            }
            // The first choice is the one of a record that succeeds.
            let next = if state["Type"] == "Choice" { &state["Choices"][0]["Next"] } else { &state["Next"] };
            let Some(next) = next.as_str() else { return (entered, published) };
            name = next;
        }
    }
    let counted = count(&state_machine());
    assert_eq!(counted, (custody_plan::record::TRANSITIONS, custody_plan::record::PUBLISHES));
}
