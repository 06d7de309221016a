"""Judges every IAM policy of a transformed template with parliament and with policy_sentry's table of actions.

usage: lint_iam.py TRANSFORMED.json [--all]      (--all: with what ACCEPTED covers)
"""

import itertools
import json
import re
import sys
import warnings
from collections import Counter

warnings.filterwarnings("ignore")  # parliament's use of pkg_resources
import parliament  # noqa: E402
from policy_sentry.querying.actions import get_action_data  # noqa: E402

# What the template's references stand for: an ARN of the type, so that a wrong resource for an action is seen.
ARNS = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:us-east-1:123456789012:table/{}",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:123456789012:{}",
    "AWS::SNS::Topic": "arn:aws:sns:us-east-1:123456789012:{}",
    "AWS::Lambda::Alias": "arn:aws:lambda:us-east-1:123456789012:function:{}:live",
    "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:123456789012:function:{}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:us-east-1:123456789012:stateMachine:{}",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-AbCdEf",
    "AWS::Events::EventBus": "arn:aws:events:us-east-1:123456789012:event-bus/{}",
    "AWS::KMS::Key": "arn:aws:kms:us-east-1:123456789012:key/{}",
    "AWS::Logs::LogGroup": "arn:aws:logs:us-east-1:123456789012:log-group:{}:*",
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/{}",
}
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "stack",
    "AWS::NoValue": None,
}
PARAMETERS = {
    "DeploymentRole": "arn:aws:iam::123456789012:role/deployment",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555",
    "ReplicaBucketArn": "arn:aws:s3:::second-archive",
    "ReplicaKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555",
    "ReferenceSources": "arn:aws:s3:::scans/*,arn:aws:s3:::loans/2026/*",
}

# (policy, statement, finding): the reason. Regular expressions that match the whole. One that matches nothing is an error.
ACCEPTED = {
    (
        "(Aggregate|Archive|Failure|Ingest|Reconcile)Role/.*", "|JoinTheNetwork", "RESOURCE_STAR",
    ): "Lambda needs these on every resource to join a VPC; the Deny next to it keeps the function's own code from using them.",
    (
        "RecordStateMachineRole/.*", "|LogAndTrace", "PERMISSIONS_MANAGEMENT(_ACTIONS)?",
    ): "Step Functions' guide asks for logs:PutResourcePolicy on every resource, for its log delivery.",
    (
        "BreakGlassRole/.*", "|DeleteArchivedPayloads", "PERMISSIONS_MANAGEMENT(_ACTIONS)?",
    ): "To bypass the retention is what this role is for.",
    (
        "BreakGlassRole/.*", "|ChangeTheSettingsOfTheArchive", "PERMISSIONS_MANAGEMENT|RESOURCE_POLICY_PRIVILEGE_ESCALATION",
    ): "To lift the denials of the archive's policy is what this role is for.",
    (
        "OperatorRole/.*", "|MakeQueuesToWatch", "PERMISSIONS_MANAGEMENT(_ACTIONS)?",
    ): "An operator makes queues, of one prefix, to watch notifications.",
}
# parliament's finding names no statement here, so the detail tells them apart: an execution has one of two ARN formats.
IGNORED_DETAIL = "arn:*:states:*:*:express:*:*:*"


class Template:
    def __init__(self, path):
        with open(path) as file:
            self.template = json.load(file)
        self.resources = self.template["Resources"]

    def name(self, reference, attribute=None):
        if reference in PSEUDO:
            return PSEUDO[reference]
        if reference in self.resources:
            pattern = ARNS.get(self.resources[reference]["Type"])
            # A Ref to a bucket or a table is its name; policies use them only inside ARNs.
            return pattern.format(reference.lower()) if pattern else reference
        return PARAMETERS.get(reference, f"parameter-{reference}")

    def resolve(self, node):
        """The node without intrinsic functions; None where it says AWS::NoValue. Fn::If: the first branch."""
        if isinstance(node, list):
            values = [self.resolve(item) for item in node]
            return [value for value in values if value is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, value), = node.items()
            if function == "Ref":
                return self.name(value)
            if function == "Fn::GetAtt":
                return self.name(value[0] if isinstance(value, list) else value.split(".")[0])
            if function == "Fn::Sub":
                text, variables = (value, {}) if isinstance(value, str) else value
                replace = lambda m: str(self.resolve(variables[m[1]]) if m[1] in variables else self.name(m[1].split(".")[0]))
                return re.sub(r"\$\{([^!}]+)\}", replace, text)
            if function == "Fn::Join":
                return value[0].join(map(str, self.resolve(value[1])))
            if function == "Fn::Split":
                return self.resolve(value[1]).split(value[0])
            if function == "Fn::If":
                return self.resolve(value[1])
            if function.startswith("Fn::"):
                raise SystemExit(f"lint_iam.py does not know {function}: {value}")
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not None}

    def policies(self):
        """(name, kind, document) of every policy."""
        for logical_id, resource in sorted(self.resources.items()):
            properties = resource.get("Properties", {})
            if "AssumeRolePolicyDocument" in properties:
                yield f"{logical_id}/trust", "trust", self.resolve(properties["AssumeRolePolicyDocument"])
            for policy in properties.get("Policies", []):
                if isinstance(policy, dict) and "PolicyDocument" in policy:
                    yield f"{logical_id}/{self.resolve(policy['PolicyName'])}", "identity", self.resolve(policy["PolicyDocument"])
            if isinstance(properties.get("PolicyDocument"), dict):
                yield logical_id, "resource", self.resolve(properties["PolicyDocument"])
            if resource["Type"] == "AWS::KMS::Key":
                yield f"{logical_id}/key", "resource", self.resolve(properties["KeyPolicy"])


def as_list(value):
    return value if isinstance(value, list) else [value]


def parliament_findings(document):
    # It tries a Deny of `s3:*` on each of the hundred actions of S3, some of which lack the condition's key. That is no error.
    statements = [s for s in as_list(document["Statement"])
                  if s.get("Effect") != "Deny" or not any("*" in a for a in as_list(s.get("Action", [])))]
    if not statements:
        return
    document = {**document, "Statement": statements}
    analysed = parliament.analyze_policy_string(json.dumps(document), include_community_auditors=True)
    for finding in analysed.findings:
        location = finding.location if isinstance(finding.location, dict) else {}
        detail = finding.detail if isinstance(finding.detail, str) else json.dumps(finding.detail, default=str)
        yield "parliament", str(location.get("sid") or ""), finding.issue, f"{detail or ''} {location.get('string', '')}".strip()[:300]


def sentry_findings(document):
    for statement in as_list(document["Statement"]):
        sid = statement.get("Sid", "")
        for action in as_list(statement.get("Action", [])):
            service, _, name = action.partition(":")
            if "*" in name:
                if statement.get("Effect") == "Allow":
                    yield "policy_sentry", sid, "ACTION_WILDCARD", action
                continue
            try:
                data = get_action_data(service, name)
            except Exception:
                data = None
            if not data:
                yield "policy_sentry", sid, "UNKNOWN_ACTION", action
                continue
            constrainable = any(entry["resource_arn_format"] != "*" for entry in data[service])
            stars = [r for r in as_list(statement.get("Resource", [])) if r == "*"]
            if statement.get("Effect") == "Allow" and stars and constrainable:
                yield "policy_sentry", sid, "RESOURCE_STAR", action
            level = data[service][0]["access_level"]
            if statement.get("Effect") == "Allow" and level == "Permissions management":
                yield "policy_sentry", sid, "PERMISSIONS_MANAGEMENT", action


def open_to_everyone(document):
    """parliament judges identity policies; this is what matters most in the others."""
    for statement in as_list(document["Statement"]):
        principal = statement.get("Principal")
        everyone = principal == "*" or (isinstance(principal, dict) and "*" in as_list(principal.get("AWS", [])))
        if statement.get("Effect") == "Allow" and everyone and "Condition" not in statement:
            yield "lint_iam", statement.get("Sid", ""), "OPEN_TO_EVERYONE", json.dumps(statement.get("Action"))


def main():
    template = Template(sys.argv[1])
    kinds, found, used = Counter(), [], set()
    for name, kind, document in template.policies():
        kinds[kind] += 1
        # parliament does not know trust policies (cfn-lint does: E3530).
        judged = () if kind == "trust" else parliament_findings(document)
        for tool, sid, issue, detail in itertools.chain(judged, sentry_findings(document), open_to_everyone(document)):
            accepted = next(
                (key for key in ACCEPTED if all(map(re.fullmatch, key, (name, sid, issue)))), None
            )
            used.add(accepted)
            if IGNORED_DETAIL in detail and "--all" not in sys.argv:
                continue
            if accepted is None or "--all" in sys.argv:
                found.append(f"{tool}: {name}: {sid}: {issue}: {detail}")
    found += [f"nothing matches {key} of ACCEPTED any more" for key in ACCEPTED if key not in used]
    for finding in dict.fromkeys(found):
        print(finding)
    print(f"{sum(kinds.values())} policies ({dict(kinds)}), {len(set(found))} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
