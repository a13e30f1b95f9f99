# AWS as somebody sees it who has nothing to do with either client: plain boto3, which puts things there and looks at what is there in the end.
import os
import boto3, botocore

sm, ssm = boto3.client("secretsmanager"), boto3.client("ssm")
OUTCOMES = {"ResourceExistsException": "AlreadyExists", "ParameterAlreadyExists": "AlreadyExists", "ResourceNotFoundException": "NotFound",
            "ParameterNotFound": "NotFound", "ParameterVersionNotFound": "NotFound", "InvalidRequestException": "Refused", "ValidationException": "Refused"}


def content(kind, text):
    return {"SecretString": text} if kind == "text" else {"SecretBinary": text.encode("latin-1")}


def put_secret(name, kind, text):
    try:
        sm.create_secret(Name=name, Description="as it was made", KmsKeyId="alias/team", Tags=[{"Key": "team", "Value": "shop"}], **content(kind, text))
    except sm.exceptions.ResourceExistsException:
        sm.restore_secret(SecretId=name)
        sm.put_secret_value(SecretId=name, **content(kind, text))


def bare_secret(name):
    sm.create_secret(Name=name)


def drop_secret(name, days):
    sm.delete_secret(SecretId=name, **({"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}))


def restore_secret(name):
    sm.restore_secret(SecretId=name)


def held(name):
    there = sm.get_secret_value(SecretId=name)
    return ["text", there["SecretString"]] if "SecretString" in there else ["bytes", there["SecretBinary"].decode("latin-1")]


def secret_state(name):
    there = sm.describe_secret(SecretId=name)
    versions = []
    for id, stages in there.get("VersionIdsToStages", {}).items():
        value = sm.get_secret_value(SecretId=name, VersionId=id) if "DeletedDate" not in there else {}
        shown = value.get("SecretString", value.get("SecretBinary", b"").decode("latin-1"))
        versions.append([sorted(stages), "text" if "SecretString" in value else "binary", shown])
    tags = sorted([tag["Key"], tag["Value"]] for tag in there.get("Tags", []))
    return [there.get("Description"), there.get("KmsKeyId"), tags, "DeletedDate" in there, sorted(versions)]


def put_parameter(name, kind, text):
    fields = {"KeyId": "alias/team"} if kind == "SecureString" else {}
    try:
        ssm.put_parameter(Name=name, Value=text, Type=kind, Description="as it was made", Tags=[{"Key": "team", "Value": "shop"}], **fields)
    except ssm.exceptions.ParameterAlreadyExists:
        ssm.put_parameter(Name=name, Value=text, Overwrite=True)


def drop_parameter(name):
    ssm.delete_parameter(Name=name)


def parameter(name):
    return ["text", ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]]


def parameter_state(name):
    pages = ssm.get_paginator("describe_parameters").paginate(ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": [name]}])
    found = [one for page in pages for one in page["Parameters"] if one["Name"] == name]
    if not found:
        return "NotFound"
    fields = [found[0].get(field) for field in ("Type", "KeyId", "Tier", "Description", "AllowedPattern", "DataType", "Version")]
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
    history = ssm.get_parameter_history(Name=name, WithDecryption=True)["Parameters"]
    return [fields, sorted([tag["Key"], tag["Value"]] for tag in tags), [one["Value"] for one in history]]


def of_aws(error):
    """The class of an error of boto's."""
    if isinstance(error, botocore.exceptions.ClientError):
        return OUTCOMES[error.response["Error"]["Code"]]
    if isinstance(error, botocore.exceptions.ParamValidationError):
        return "Refused"
    raise error


WORLD = {f.__name__: f for f in (put_secret, bare_secret, drop_secret, restore_secret, held, secret_state, put_parameter, drop_parameter, parameter, parameter_state)}
