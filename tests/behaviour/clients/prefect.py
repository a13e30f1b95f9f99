# prefect-aws 0.7.12: the tasks' own functions, without a server, and the block.
import asyncio, logging
import botocore.exceptions
from prefect.logging import disable_run_logger
from prefect_aws import AwsCredentials
from prefect_aws import secrets_manager as tasks

logging.disable(logging.CRITICAL)
credentials = AwsCredentials(
    aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"], region_name=os.environ["AWS_DEFAULT_REGION"]
)
# The versions of each, in the order in which they were made, so that they can be asked for by number.
versions = {}


def task(task, *args, **kwargs):
    with disable_run_logger():
        return asyncio.run(task.fn(*args, aws_credentials=credentials, **{name: value for name, value in kwargs.items() if value is not None}))


def block(name):
    return tasks.AwsSecret(aws_credentials=credentials, secret_name=name)


def known(name, answer):
    versions.setdefault(name, []).append(answer["VersionId"])


def read(name, stage=None, number=None):
    id = None if number is None else versions[name][number]
    return shown(task(tasks.read_secret, secret_name=name, version_stage=stage, version_id=id))


def create(name, kind, text, description=None, tags=None):
    tags = [{"Key": key, "Value": value} for key, value in tags.items()] if tags else None
    known(name, task(tasks.create_secret, secret_name=name, secret_value=given(kind, text), description=description, tags=tags))


def update(name, kind, text, description=None):
    known(name, task(tasks.update_secret, secret_name=name, secret_value=given(kind, text), description=description))


def delete(name, days, force=False):
    task(tasks.delete_secret, secret_name=name, recovery_window_in_days=days, force_delete_without_recovery=force)


def block_read(name):
    return shown(block(name).read_secret())


def block_write(name, text):
    block(name).write_secret(given("bytes", text))


def block_delete(name, days, force=False):
    block(name).delete_secret(recovery_window_in_days=days, force_delete_without_recovery=force)


def classes(error):
    return "Refused" if type(error) is ValueError else of_aws(error)


serve(WORLD | {f.__name__: f for f in (read, create, update, delete, block_read, block_write, block_delete)}, classes)
