"""Roles as people take them on. The emulator's administrator is the account's root user, which, as on AWS, can take on no role."""

import contextlib
import json
import uuid

import boto3
from botocore.exceptions import ClientError

iam, sts = boto3.client("iam"), boto3.client("sts")


@contextlib.contextmanager
def person():
    """Makes a user who may take on every role that admits people of this account, and removes the user."""
    name = f"test-{uuid.uuid4()}"
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="TakeOnRoles", PolicyDocument=policy(statement))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    try:
        yield boto3.Session(key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName=name, PolicyName="TakeOnRoles")
        iam.delete_user(UserName=name)


def credentials_of(arn):
    """Returns the credentials of a role: AccessKeyId, SecretAccessKey, SessionToken."""
    try:
        return sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    except ClientError:
        # The root user can take on no role. On the emulator, a user is made who can.
        if not sts.get_caller_identity()["Arn"].endswith(":root"):
            raise
    with person() as session:
        return session.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]


@contextlib.contextmanager
def role_with(policies):
    """Makes a role with these policies, for people of this account, and removes the role."""
    name = f"test-{uuid.uuid4()}"
    people = {"AWS": f"arn:aws:iam::{sts.get_caller_identity()['Account']}:root"}
    trust = policy({"Effect": "Allow", "Principal": people, "Action": "sts:AssumeRole"})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    for number, document in enumerate(policies):
        iam.put_role_policy(RoleName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(document))
    try:
        yield arn
    finally:
        for number, _ in enumerate(policies):
            iam.delete_role_policy(RoleName=name, PolicyName=f"policy-{number}")
        iam.delete_role(RoleName=name)


def policies_of(arn):
    """Returns the policies of a role."""
    role = arn.rsplit("/", 1)[-1]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
