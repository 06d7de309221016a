"""Prints how long the functions of a deployment ran, how much of each service its records used, and what that costs by the list prices
of crates/plan/src/facts.json. Times come from the reports that Lambda writes into the logs, other amounts from CloudWatch's metrics, which
come some minutes later; "no figure" means that there is none (yet), and the emulator has none.

Usage: figures.py STACK_NAME FACTS TRANSITIONS BEGINNING: the file of prices, the state transitions of an execution, the Unix time at which
the deployment began
"""

import datetime
import json
import re
import sys
import time

import boto3

stack_name, facts_file, transitions, beginning = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with open(facts_file, encoding="utf-8") as file:
    facts = json.load(file)
cloudwatch = boto3.client("cloudwatch")
# A period of CloudWatch begins at a full minute.
WINDOW = {
    "StartTime": datetime.datetime.fromtimestamp(beginning // 60 * 60, datetime.timezone.utc),
    "EndTime": datetime.datetime.fromtimestamp(time.time() // 60 * 60 + 60, datetime.timezone.utc),
}
PERIOD = 3600


def total(namespace, metric, **dimensions):
    """Returns the sum of a metric over the life of the deployment, or None if CloudWatch has no value."""
    points = cloudwatch.get_metric_statistics(
        Namespace=namespace, MetricName=metric, Period=PERIOD, Statistics=["Sum"], **WINDOW,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()])["Datapoints"]
    return sum(point["Sum"] for point in points) if points else None


def total_with_indexes(metric, table):
    """Returns the sum of a metric of a table and of its indexes, which DynamoDB counts separately."""
    found = cloudwatch.list_metrics(
        Namespace="AWS/DynamoDB", MetricName=metric, Dimensions=[{"Name": "TableName", "Value": table}])["Metrics"]
    sums = (total("AWS/DynamoDB", metric, **{of["Name"]: of["Value"] for of in one["Dimensions"]}) for one in found)
    return all_of(sums)


def price(name):
    """The price of a unit before any discount for large amounts, in USD."""
    return facts["prices"][name]["usd"][0][1]


resources = []
for page in boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_name):
    resources += page["StackResourceSummaries"]


def of_type(kind):
    return [(entry["LogicalResourceId"], entry["PhysicalResourceId"]) for entry in resources if entry["ResourceType"] == kind]


def cell(value, pattern):
    return "no figure" if value is None else pattern.format(value)


REPORT = re.compile(r"\tDuration: ([\d.]+) ms\tBilled Duration: ([\d.]+) ms\tMemory Size: (\d+) MB\tMax Memory Used: (\d+) MB")
STARTED = re.compile(r"\tInit Duration: ([\d.]+) ms")


def reports(group):
    """Returns what Lambda has reported in a log: for each invocation (ms, billed ms, MB, used MB, ms of the cold start or None)."""
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(
        logGroupName=group, filterPattern='"REPORT RequestId"')
    for page in pages:
        for event in page["events"]:
            if found := REPORT.search(event["message"]):
                started = STARTED.search(event["message"])
                yield (*map(float, found.groups()), float(started[1]) if started else None)


def percentile(values, percent):
    """The nearest rank."""
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)]


print("\nFunctions, by what Lambda reports in their logs (ms; MB):\n")
print(f"{'':<11}{'calls':>7}{'p50':>9}{'p99':>9}{'longest':>9}{'cold':>6}{'cold p50':>9}{'memory':>8}{'used':>6}{'GB-s':>9}")
invocations = gb_seconds = 0
for logical, group in sorted(of_type("AWS::Logs::LogGroup")):
    calls = list(reports(group))
    if not calls:
        continue
    took, billed, memory, used, starts = zip(*calls)
    starts = [start for start in starts if start is not None]
    gb = sum(billed) / 1000 * memory[-1] / 1024
    invocations, gb_seconds = invocations + len(calls), gb_seconds + gb
    print(f"{logical.removesuffix('LogGroup'):<11}{len(calls):>7}{percentile(took, 50):>9.1f}{percentile(took, 99):>9.1f}{max(took):>9.1f}"
          f"{len(starts):>6}{cell(percentile(starts, 50) if starts else None, '{:.1f}').replace('no figure', '-'):>9}"
          f"{memory[-1]:>8.0f}{max(used):>6.0f}{gb:>9.2f}")

[(_, state_machine)] = of_type("AWS::StepFunctions::StateMachine")
tables = [name for _, name in of_type("AWS::DynamoDB::Table")]
[topic] = [arn for logical, arn in of_type("AWS::SNS::Topic") if logical == "NotificationTopic"]
apis = [boto3.client("apigateway").get_rest_api(restApiId=name)["name"] for _, name in of_type("AWS::ApiGateway::RestApi")]


def all_of(values):
    known = [value for value in values if value is not None]
    return sum(known) if known else None


workflow_type = boto3.client("stepfunctions").describe_state_machine(stateMachineArn=state_machine)["type"]
starts = total("AWS/States", "ExecutionsStarted", StateMachineArn=state_machine)
if workflow_type == "EXPRESS":
    transitions = 1
write_units = all_of(total_with_indexes("ConsumedWriteCapacityUnits", table) for table in tables)
read_units = all_of(total_with_indexes("ConsumedReadCapacityUnits", table) for table in tables)
published = total("AWS/SNS", "NumberOfMessagesPublished", TopicName=topic.rsplit(":", 1)[-1])
requests = all_of(total("AWS/ApiGateway", "Count", ApiName=name) for name in set(apis))
hours = (time.time() - beginning) / 3600
print("\nWhat was used, and its price without discounts and free tiers:\n")
print(f"{'':<44}{'amount':>14}{'USD':>12}")
known = 0.0
for what, amount, name in [
    ("invocations of functions", invocations, "lambda.request"),
    ("GB-seconds of functions", gb_seconds, "lambda.gb_second.arm64"),
    (f"{'state transitions' if transitions > 1 else 'executions'} (executions × {transitions})",
     starts and starts * transitions,
     "sfn.standard.transition" if transitions > 1 else "sfn.express.request"),
    ("write units of tables", write_units, "ddb.wru"),
    ("read units of tables", read_units, "ddb.rru"),
    ("notifications", published, "sns.request"),
    ("requests to the APIs", requests, "apigw.rest.request"),
    ("hours of five interface endpoints in two zones", hours * 10, "vpce.hour"),
]:
    usd = None if amount is None else amount * price(name)
    known += usd or 0
    print(f"{what:<46}{cell(amount, '{:.2f}'):>12}{cell(usd, '{:.4f}'):>12}")
print(f"{'all of these':<58}{known:>12.4f}")
print("\nNot in the list: the cache, S3 requests and storage, logs and traces, which have no such metric; see `custody plan`.")
