"""What may differ between two runs of one cell, and nothing else.

Each rule is (why, pattern, replacement) and is applied to every text of an output. Besides these:
neighbouring stream outputs are joined by name, because how the text of a cell is cut into messages
is a matter of timing, and so is the order of stdout against stderr within one burst.
"""
import re

RULES = [
    ("addresses in reprs", re.compile(r"0x[0-9a-fA-F]{6,16}"), "0xADDRESS"),
    ("what %%time measured", re.compile(r"(CPU times|Wall time): [^\n]*"), r"\1: MEASURED"),
    ("process ids in names of cell files", re.compile(r"(?:/[\w.+-]+)+/ipykernel_\d+/\d+\.py"), "CELL.py"),
]


def clean(value, replace=()):
    """`value` with the rules applied to every string in it; `replace`: extra (old, new) pairs."""
    if isinstance(value, str):
        for _, pattern, new in RULES:
            value = pattern.sub(new, value)
        for old, new in replace:
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [clean(item, replace) for item in value]
    if isinstance(value, dict):
        return {key: clean(item, replace) for key, item in value.items()}
    return value


def join_streams(outputs):
    joined = []
    for kind, content in outputs:
        if kind != "stream":
            joined.append((kind, content))
            continue
        if not joined or joined[-1][0] != "streams":
            joined.append(("streams", {}))
        texts = joined[-1][1]
        texts[content["name"]] = texts.get(content["name"], "") + content["text"]
    return joined


def comparable(run, replace=()):
    """A CellRun as plain data that must be equal in all runs of the cell."""
    outputs = []
    for kind, content in join_streams(run.outputs):
        content = dict(content)
        display_id = content.pop("transient", {}).get("display_id")
        # A display id that the kernel drew itself is random; that there is one is not.
        content["has_display_id"] = display_id is not None
        outputs.append([kind, clean(content, replace)])
    reply = run.reply["content"]
    return {
        "status": reply["status"],
        "execution_count": reply.get("execution_count"),
        "error": clean([reply.get("ename"), reply.get("evalue")], replace),
        "payload": [item.get("source") for item in reply.get("payload") or ()],
        "code_shown": [content["execution_count"] for content in run.inputs],
        "outputs": outputs,
    }
