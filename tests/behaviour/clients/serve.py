# A step a line enters as JSON, [name, argument, …]; what came of it leaves as JSON: a value as [kind, text], "ok", or the class of the error.
import json, sys


def shown(value):
    """A value as this project has it: the text of a string, the JSON of anything else, bytes as Latin-1."""
    if value is None or isinstance(value, (bool, int, float, list, dict)):
        return ["text", json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda _: "!leak")]
    if isinstance(value, bytes):
        return ["bytes", value.decode("latin-1")]
    return ["text", value]


def given(kind, text):
    return text if kind == "text" else text.encode("latin-1")


def serve(steps, classes):
    for line in sys.stdin:
        name, *rest = json.loads(line)
        try:
            answer = steps[name](*rest)
        except Exception as error:
            answer = classes(error)
        print(json.dumps("ok" if answer is None else answer), flush=True)
