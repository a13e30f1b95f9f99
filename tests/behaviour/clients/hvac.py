# hvac 2.3: both versions of the key-value store, and Edge's secrets as their documentation has them, on the layout of docs/edge.md.
import re, sys
import hvac, requests

url, token = sys.argv[1:]
client = hvac.Client(url=url, token=token)
two, one = client.secrets.kv.v2, client.secrets.kv.v1


def read(path, version=None):
    return shown(two.read_secret_version(path=path, version=version, raise_on_deleted_version=True, mount_point="kv")["data"]["data"])


def create(path, value):
    two.create_or_update_secret(path=path, secret=value, cas=0, mount_point="kv")


def put(path, value):
    two.create_or_update_secret(path=path, secret=value, mount_point="kv")


def update(path, value):
    current = two.read_secret_version(path=path, raise_on_deleted_version=True, mount_point="kv")["data"]["metadata"]["version"]
    two.create_or_update_secret(path=path, secret=value, cas=current, mount_point="kv")


def patch(path, member, value):
    two.patch(path=path, secret={member: value}, mount_point="kv")


def delete(path):
    two.delete_latest_version_of_secret(path=path, mount_point="kv")


def purge(path):
    two.delete_metadata_and_all_versions(path=path, mount_point="kv")


def undelete(path):
    current = two.read_secret_metadata(path=path, mount_point="kv")["data"]["current_version"]
    two.undelete_secret_versions(path=path, versions=[current], mount_point="kv")


def names(path):
    return two.list_secrets(path=path, mount_point="kv")["data"]["keys"]


def plain_read(path):
    return shown(one.read_secret(path=path, mount_point="plain")["data"])


def plain_put(path, value):
    one.create_or_update_secret(path=path, secret=value, mount_point="plain")


def plain_delete(path):
    one.delete_secret(path=path, mount_point="plain")


def plain_names(path):
    return one.list_secrets(path=path, mount_point="plain")["data"]["keys"]


class BadEntry(Exception):
    pass


class AlreadyExists(Exception):
    pass


def entry(place, name):
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise BadEntry
    return f"{place}/{name}"


def edge_read(place, name):
    return shown(two.read_secret_version(path=entry(place, name), raise_on_deleted_version=True, mount_point="secret")["data"]["data"])


def edge_create(place, name, value):
    try:
        two.create_or_update_secret(path=entry(place, name), secret=value, cas=0, mount_point="secret")
    except hvac.exceptions.InvalidRequest:
        raise AlreadyExists


def edge_update(place, name, value):
    current = two.read_secret_metadata(path=entry(place, name), mount_point="secret")["data"]["current_version"]
    two.create_or_update_secret(path=entry(place, name), secret=value, cas=current, mount_point="secret")


def edge_delete(place, name):
    two.delete_metadata_and_all_versions(path=entry(place, name), mount_point="secret")


def edge_wrap(place, name):
    info = client.read(f"secret/data/{entry(place, name)}", wrap_ttl="300s")
    if info is None:
        raise hvac.exceptions.InvalidPath
    return redeem(info["wrap_info"]["token"], f"{url}/v1/sys/wrapping/unwrap")


def redeem(token, unwrap_url):
    look = lambda: requests.post(unwrap_url, headers={"X-Vault-Token": token})
    first, second = look(), look()
    return [shown(first.json()["data"]["data"]), second.status_code]


def edge_names(place):
    try:
        return two.list_secrets(path=place, mount_point="secret")["data"]["keys"]
    except hvac.exceptions.InvalidPath:
        return []


def classes(error):
    if isinstance(error, (hvac.exceptions.InvalidRequest, AlreadyExists)):
        return "AlreadyExists"
    if isinstance(error, hvac.exceptions.InvalidPath):
        return "NotFound"
    return {"BadEntry": "Refused"}.get(type(error).__name__, type(error).__name__)


serve({name: f for name, f in list(globals().items()) if callable(f)}, classes)
