"""Fixes the differences between the emulator's authorization of requests and that of AWS, and notes which permissions are used."""

import json
import os
import re

from ministack.core import iam_actions, iam_evaluator

WORDS_OF_EXPRESSIONS = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"}


def enforce_policies_as_iam_does():
    authorize_starts_by_the_state_machine()
    authorize_reads_of_logs_by_streams()
    authorize_batches_as_single_messages()
    authorize_requests_in_cbor()
    know_the_conditions_of_creating_objects()
    name_the_role_of_a_session_as_iam_does()
    know_all_attributes_of_a_request()
    note_which_permissions_are_used()


def authorize_starts_by_the_state_machine():
    """The emulator wants a permission for the alias that a workflow is started with. On AWS, a permission is for the state
    machine. Source: AWS Step Functions developer guide, "Creating fine-grained permissions for versions and aliases"."""
    resource_of = iam_actions.extract_resource_arn

    def without_alias(service, *arguments, **named):
        arn = resource_of(service, *arguments, **named)
        return re.sub(r"(:stateMachine:[^:]+):.*", r"\1", arn) if service == "states" else arn

    iam_actions.extract_resource_arn = without_alias


def authorize_reads_of_logs_by_streams():
    """In the emulator, the resource of a read of a log group is the group. On AWS it is the streams of the group, so a permission ends
    in :*, as Fn::GetAtt returns the ARN. Source: Amazon CloudWatch Logs user guide, "Overview of managing access permissions"."""
    resource_of = iam_actions.extract_resource_arn

    def streams(service, *arguments, **named):
        arn = resource_of(service, *arguments, **named)
        is_group = service == "logs" and re.fullmatch(r"arn:[^:]+:logs:[^:]*:[^:]*:log-group:[^:]+", arn or "")
        return f"{arn}:log-stream:" if is_group else arn

    iam_actions.extract_resource_arn = streams


def authorize_batches_as_single_messages():
    """The emulator wants a permission of its own for each batch action of SQS. On AWS, the permission for one message is also
    that for a batch, and the batch action is no permission."""
    extract = iam_actions.extract_iam_action

    def extract_without_batch(*arguments, **named):
        action = extract(*arguments, **named)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = extract_without_batch


def authorize_requests_in_cbor():
    """The emulator finds no action in a request in CBOR (Smithy RPC v2), which SDKs send to CloudWatch, and then lets everybody make it. The
    operation is the end of the path. The resource of DescribeAlarms is every alarm. Source: Service Authorization Reference, "Actions,
    resources, and condition keys for Amazon CloudWatch"."""
    action_of, resource_of = iam_actions.extract_iam_action, iam_actions.extract_resource_arn

    def action(service, method, path, *arguments, **named):
        operation = re.fullmatch(r"/service/[^/]+/operation/(\w+)", path)
        if service == "monitoring" and operation:
            return f"cloudwatch:{operation[1]}"
        return action_of(service, method, path, *arguments, **named)

    def resource(service, method, path, headers, body, query_params, region, account):
        if service == "monitoring" and "/operation/" in path:
            return f"arn:aws:cloudwatch:{region}:{account}:alarm:*" if path.endswith("/DescribeAlarms") else "*"
        return resource_of(service, method, path, headers, body, query_params, region, account)

    iam_actions.extract_iam_action = action
    iam_actions.extract_resource_arn = resource


def know_the_conditions_of_creating_objects():
    """The emulator lacks two condition keys of S3, with which a bucket's policy demands conditional writes. On AWS,
    s3:if-none-match has the header's value, and s3:ObjectCreationOperation is false for the parts of a multipart upload."""
    context_of = iam_actions._s3_object_context

    def context_with_conditions(iam_action, query_params, path, headers):
        context = context_of(iam_action, query_params, path, headers)
        if iam_action == "s3:PutObject":
            is_part = "uploads" in query_params or "partNumber" in query_params
            context["s3:ObjectCreationOperation"] = str(not is_part).lower()
            if headers.get("if-none-match"):
                context["s3:if-none-match"] = headers["if-none-match"]
        return context

    iam_actions._s3_object_context = context_with_conditions


def name_the_role_of_a_session_as_iam_does():
    """In the emulator, aws:PrincipalArn is the ARN of the session. On AWS it is that of the role."""
    resolve = iam_evaluator._resolve_condition_key

    def resolve_with_role(key, context):
        value = resolve(key, context)
        if key.lower() == "aws:principalarn" and ":assumed-role/" in (value or ""):
            return f"arn:aws:iam::{value.split(':')[4]}:role/{iam_evaluator._role_name_from_assumed_arn(value)}"
        return value

    iam_evaluator._resolve_condition_key = resolve_with_role


def know_all_attributes_of_a_request():
    """In the emulator, dynamodb:Attributes has the attributes of a projection. On AWS it has all top-level attributes that a
    request names, those of keys, items and other expressions too."""
    context_of = iam_actions.dynamodb_service_context

    def context_with_attributes(body):
        context = context_of(body)
        request = json.loads(body or b"{}")
        placeholders = request.get("ExpressionAttributeNames") or {}
        attributes = {*request.get("Key", ()), *request.get("Item", ()), *context.get("dynamodb:Attributes", ())}
        for expression in ("UpdateExpression", "ConditionExpression", "FilterExpression", "KeyConditionExpression"):
            # A name is the first segment of a path. Values begin with a colon; functions have a parenthesis.
            for name in re.findall(r"(?<![:.\w#])(#?[A-Za-z_]\w*)(?![\w(]|\s*\()", request.get(expression) or ""):
                if name.upper() not in WORDS_OF_EXPRESSIONS:
                    attributes.add(placeholders.get(name, name))
        if attributes:
            context["dynamodb:Attributes"] = sorted(attributes)
        return context

    iam_actions.dynamodb_service_context = context_with_attributes


def note_which_permissions_are_used():
    """Notes each statement of a role's policies that allowed a request, with the action and the resource of the policy. After
    the suites, check_permissions.py compares these notes with the policies: a permission that nothing uses is too many."""
    path = os.path.join(os.environ["HOME"], "permissions-used.jsonl")
    evaluate, seen = iam_evaluator.evaluate, set()

    def evaluate_and_note(context, policies, *limits):
        result = evaluate(context, policies, *limits)
        if result.decision == "Allow" and context.principal_type == "AssumedRole":
            role = context.principal_arn.split("/")[1]
            for statement in (statement for policy in policies for statement in policy):
                if iam_evaluator._first_match(context, [statement], "Allow"):
                    for resource in statement.resources:
                        if iam_evaluator._resource_matches(context.resource_arn, [resource], []):
                            note(role, statement.sid, context.action, resource)
        return result

    def note(*use):
        if use not in seen:
            seen.add(use)
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(use) + "\n")

    iam_evaluator.evaluate = evaluate_and_note
