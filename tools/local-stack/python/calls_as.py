"""Makes calls with the permissions of a role, and prints for each call whether the permissions allow it.

Usage: calls_as.py ROLE_ARN | calls_as.py --copy ROLE_ARN | calls_as.py --policy POLICY_JSON
With --copy, the calls are made with a copy of the role's policies: people may not take on the role of a function.
Standard input is a JSON list of calls, [service, operation, parameters]. Standard output is a JSON list: `allowed`, also
where the call then fails for another reason, or `denied`.
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

import roles

DENIALS = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "403"}


def call(session, service, operation, parameters):
    try:
        getattr(session.client(service), operation)(**parameters)
    except ClientError as error:
        return "denied" if error.response["Error"]["Code"] in DENIALS else "allowed"
    return "allowed"


def print_results(arn):
    credentials = roles.credentials_of(arn)
    session = boto3.Session(
        credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    print(json.dumps([call(session, *details) for details in json.load(sys.stdin)]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--policy", policy]:
            with roles.role_with([json.loads(policy)]) as copy:
                print_results(copy)
        case ["--copy", arn]:
            with roles.role_with(roles.policies_of(arn)) as copy:
                print_results(copy)
        case [arn]:
            print_results(arn)
