# s1crets 0.0.12.
from s1crets.providers.aws.ps import SecretProvider as Parameters
from s1crets.providers.aws.sm import SecretProvider as Secrets

# As everybody has them, and without a cache.
cached = {"sm": Secrets(), "ps": Parameters()}
fresh = {"sm": Secrets(cache_args={"cache_ttl": 0}), "ps": Parameters(cache_args={"cache_ttl": 0})}


def at(store, from_cache):
    return (cached if from_cache else fresh)[store]


def get(store, name, keypath, from_cache=False):
    return shown(at(store, from_cache).get(name, keypath=keypath))


def exists(store, name, keypath, from_cache=False):
    return at(store, from_cache).path_exists(name, keypath=keypath)


def below(store, path):
    return {name: shown(value) for name, value in at(store, False).get_by_path(path).items()}


def update(store, name, kind, text, from_cache=False):
    at(store, from_cache).update(name, given(kind, text))


def classes(error):
    if isinstance(error, KeyError):
        return "KeypathNotFound" if len(error.args) == 2 else "NotFound"
    if isinstance(error, (TypeError, ValueError, AttributeError)) and not isinstance(error, botocore.exceptions.BotoCoreError):
        return type(error).__name__
    return of_aws(error)


serve(WORLD | {"get": get, "exists": exists, "below": below, "update": update}, classes)
