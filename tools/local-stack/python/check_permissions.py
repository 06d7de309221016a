"""Compares the permissions of the stack's roles with those that the suites have used. A permission that nothing used is too
many, and so is one that names every action of a service. A missing permission fails the suites themselves, because the local
stack enforces policies.

Usage: check_permissions.py STACK_NAME USES_FILE; USES_FILE is what emulator.py has noted.
"""

import json
import sys

import boto3

# Permissions that the suites do not use, although something does: the role's logical id, the statement's Sid, and what an action or a
# resource contains (`*`: any). The reason is part of the entry.
MISSING_OBJECT = "S3 looks at it itself, to answer 404 instead of 403 for a key without an object; the emulator always answers 404"
NOT_USED_HERE = {
    ("*", "WriteTheLog", "*"): "Lambda writes the logs; the emulator does so with no role",
    ("*", "SendTraces", "*"): "Lambda sends traces; the emulator sends none",
    ("*", "JoinTheNetwork", "*"): "Lambda makes network interfaces; the emulator makes none",
    ("*", "UseTheKey", "*"): "the first stack has no key of its own",
    ("*", "TellAMissingPayloadFromAForbiddenOne", "*"): MISSING_OBJECT,
    ("*", "TellAMissingMarkerFromAForbiddenOne", "*"): MISSING_OBJECT,
    ("*", "ListPayloads", "failedbucket"): MISSING_OBJECT,
    ("*", "DecryptObjectsThatAreSentByReference", "*"): "the emulator encrypts nothing",
    ("*", "CopyObjectsThatAreSentByReference", "s3:GetObjectVersion"): "the bucket of references has no versions here",
    ("RedriveRole", "TakeDeadLettersFromTheRedriveQueue", "*"): "Lambda reads the queue; the emulator does so with no role",
    ("RecordStateMachineRole", "*", "*"): "the emulator runs workflows with no role; a drift test compares grants and definition",
    ("ReconcileScheduleRole", "*", "*"): "the emulator runs schedules with no role",
    ("ApiGatewayLogRole", "*", "*"): "a policy of AWS",
    ("DeploymentGroupRole", "*", "*"): "the emulator has no CodeDeploy",
    ("BreakGlassRole", "*", "*"): "nothing uses it in normal operation; break_glass.py takes it on",
    ("OperatorRole", "MoveDeadLettersWithSqsItself", "*"): "the emulator has no StartMessageMoveTask",
    ("OperatorRole", "LookAtMetrics", "cloudwatch:ListMetrics"): "a person looks at the console",
    ("OperatorRole", "LookAtTheDashboard", "*"): "a person looks at the console",
    # What follows happens only in situations that the tests of the stages make, with stores in memory, and the suites do not.
    ("UploadRole", "CopyObjectsThatAreSentByReference", "*"): "a copy that ingest began and did not end",
    ("UploadRole", "BeginUploads", "dynamodb:DeleteItem"): "an upload that cannot be completed any more",
    ("IngestRole", "BeginUploads", "dynamodb:UpdateItem"): "a payload of 64 MB and more by reference, which one request at a time copies",
    ("IngestRole", "KeepRejectedRequests", "/requests/*"): "a large request that neither table nor markers could accept",
    ("IngestRole", "PreserveLostPayloadsThatAreSentAgain", "*"): "a producer repeats a request whose payload was lost with the cache",
    ("MetadataRole", "NoteWhenTheyWereStored", "*"): "the failure stage wrote the item before the metadata stage did",
    ("ReconcileRole", "RenewClaimsOfOpenRecords", "*"): "a record is open for hours",
    ("FailureRole", "PreservePayloads", "/corrupted/*"): "the cache has other bytes than were accepted",
    ("QueryRole", "LinkToPayloads", "/records/*"): "somebody reads the preserved payload of a failed record",
    ("*", "ReadPayloads", "markerbucket"): "somebody traces a record that is only a marker",
    ("OperatorRole", "WatchNotifications", "sns:ListSubscriptionsByTopic"): "a `custody watch` was killed hours ago",
}


def listed(value):
    return value if isinstance(value, list) else [value]


def is_excused(role, sid, part):
    return any(excused_role in (role, "*") and excused_sid in (sid, "*") and (text == "*" or text in part)
               for excused_role, excused_sid, text in NOT_USED_HERE)


def unused_permissions(role, statements, uses):
    """Yields a line for each action that no use has, and for each resource."""
    for statement in statements:
        sid = statement["Sid"]
        if statement["Effect"] != "Allow":
            continue
        of_statement = [(action, resource) for used_sid, action, resource in uses if used_sid == sid]
        actions, resources = {use[0].lower() for use in of_statement}, {use[1] for use in of_statement}
        for action in listed(statement["Action"]):
            if "*" in action:
                yield f"{role}, {sid}: {action} names more than one action"
            elif action.lower() not in actions and not is_excused(role, sid, action):
                yield f"{role}, {sid}: nothing used {action}"
        for resource in listed(statement["Resource"]):
            if resource not in resources and not is_excused(role, sid, resource):
                yield f"{role}, {sid}: nothing used {resource}"


def main(stack_name, uses_file):
    iam = boto3.client("iam")
    with open(uses_file, encoding="utf-8") as file:
        uses = [json.loads(line) for line in file]
    resources = boto3.client("cloudformation").describe_stack_resources(StackName=stack_name)["StackResources"]
    roles = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources
             if resource["ResourceType"] == "AWS::IAM::Role"}
    assert roles, "the stack must have roles"
    findings, count = [], 0
    for role, name in sorted(roles.items()):
        managed = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        if managed and role != "ApiGatewayLogRole":
            findings.append(f"{role}: has the managed policy {managed[0]['PolicyName']}, which is for every stack")
        of_role = [use[1:] for use in uses if use[0] == name]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            count += len(document["Statement"])
            findings.extend(unused_permissions(role, document["Statement"], of_role))
    for finding in findings:
        print(finding)
    print(f"{count} statements of {len(roles)} roles: {len(findings)} permissions are too many")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
