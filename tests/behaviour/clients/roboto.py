# The Roboto SDK 0.62.
import http.client
import botocore.exceptions
from roboto.domain.secrets import Secret


def create(name, value):
    Secret.create(name, caller_org_id="org_1", initial_value=value)


def read(name):
    return shown(Secret.from_name(name, org_id="org_1").read_value().get_secret_value())


def read_uri(uri):
    return shown(Secret.from_uri(uri, fallback_org_id="org_1").read_value().get_secret_value())


def update(name, value):
    Secret.from_name(name, org_id="org_1").update_value(value)


def delete(name):
    Secret.from_name(name, org_id="org_1").delete()


def names():
    return [record.name for record in Secret.for_org("org_1")]


OUTCOMES = {"RobotoNotFoundException": "NotFound", "RobotoConflictException": "AlreadyExists", "ParamValidationError": "Refused", "InvalidURL": "Refused",
            "UnicodeEncodeError": "Refused", "ValueError": "Refused", "RobotoIllegalArgumentException": "Refused", "ResourceNotFoundException": "NotFound"}


def classes(error):
    name = type(error).__name__
    return OUTCOMES.get(name, name)


serve({f.__name__: f for f in (create, read, read_uri, update, delete, names)}, classes)
