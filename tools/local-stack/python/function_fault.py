"""Breaks a function, or mends it.

Usage:
  function_fault.py without FUNCTION SETTING   a new version without this setting takes all calls; prints the version before
  function_fault.py back FUNCTION VERSION      this version takes all calls again, as CodeDeploy has it when it rolls back
  function_fault.py workflow-without FUNCTION SETTING MACHINE   the same for a function that a workflow calls by its version
  function_fault.py workflow-back FUNCTION VERSION MACHINE
  function_fault.py throttle FUNCTION          Lambda runs it no more, as if a quota were used up
  function_fault.py release FUNCTION           Lambda runs it again
"""

import re
import sys

import boto3

ALIAS = "live"


def broken_version(aws, function, setting):
    """Makes a version of the function that lacks a setting."""
    settings = aws.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    fewer = {name: value for name, value in settings.items() if name != setting}
    assert fewer != settings, f"{function} has no setting {setting}"
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": fewer})
    version = aws.publish_version(FunctionName=function)["Version"]
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": settings})
    return version


def without(aws, function, setting):
    version = broken_version(aws, function, setting)
    print(aws.get_alias(FunctionName=function, Name=ALIAS)["FunctionVersion"])
    back(aws, function, version)


def back(aws, function, version):
    aws.update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)


def workflow_without(aws, function, setting, machine):
    print(workflow_back(aws, function, broken_version(aws, function, setting), machine))


def workflow_back(_, function, version, machine):
    """Has the workflow call this version. Returns the version before."""
    workflows = boto3.client("stepfunctions")
    definition = workflows.describe_state_machine(stateMachineArn=machine)["definition"]
    called = re.compile(rf"(:function:{re.escape(function)}):([0-9]+)")
    before = called.search(definition).group(2)
    workflows.update_state_machine(stateMachineArn=machine, definition=called.sub(rf"\1:{version}", definition))
    return before


def throttle(aws, function):
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)


def release(aws, function):
    aws.delete_function_concurrency(FunctionName=function)


if __name__ == "__main__":
    commands = {
        "without": without,
        "back": back,
        "workflow-without": workflow_without,
        "workflow-back": workflow_back,
        "throttle": throttle,
        "release": release,
    }
    commands[sys.argv[1]](boto3.client("lambda"), *sys.argv[2:])
