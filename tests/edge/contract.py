"""A row that asks whatever the published OpenAPI allows, and what it does not: schemathesis, in all of its phases."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from tests.edge.rows import ROWS, guarded, new_key
from tests.faults.rows import Row, Seen, Setting
from tests.gridgov import until
from tests.system.refusals import ask

HOOKS = "tests.edge.ndjson"
# A wrong trace or request id is left aside, as W3C has it, not refused: nothing to try there.
LEFT_ASIDE = {"X-Request-Id", "traceparent"}
# What is valid in form may be refused for its meaning: a category that is in no catalogue, a time that lies ahead.
EXCLUDED = "positive_data_acceptance"
# Beside what RFC 9110 has for what is wrong: 413, which more than 1,000 reports get, and 207, which says of each
# report of a batch what is wrong.
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [207, 400, 401, 403, 404, 405, 406, 409, 413, 415, 422]
"""
CASES = re.compile(r"(\d+) generated(?:, (.*))?")


def asked(
    setting: Setting, role: str = "sender", phases: str = "examples,coverage,fuzzing,stateful", **odd: dict[str, Any]
) -> Seen:
    """With a sender's key or a reader's; each operation also without a key and with a wrong one."""
    examples = 10 if setting.short or odd else 200
    with guarded(setting, odd) as (own, _):
        key = new_key(own, "asking", role, "--cases", "all")
        let_in = {"Authorization": f"Bearer {key}"}
        until(lambda: ask(own, "GET", "/v1/catalogue", headers=let_in).status == 200, "the key is known")
        _write(setting.directory, ask(own, "GET", "/openapi.json").json)
        command = ["run", "openapi.json", "-u", own.url, "-H", f"Authorization: Bearer {key}", "--phases", phases]
        command += ["-n", str(examples), "--seed", str(setting.seed), "--exclude-checks", EXCLUDED, "--no-color"]
        command += ["--generation-database", "none", "--continue-on-failure", "--no-shrink", "--warnings", "off"]
        done = subprocess.run(
            [Path(sys.executable).with_name("st"), *command],
            cwd=setting.directory,
            env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    told = CASES.search(done.stdout)
    assert told is not None, f"{done.stdout}\n{done.stderr}"
    if done.returncode and not odd:
        print(done.stdout)
    return Seen(done.returncode == 0, f"{told[1]} requests with a {role}'s key, {told[2] or '0 failures'}")


def _write(directory: Path, document: dict[str, Any]) -> None:
    known = document["components"]["parameters"]
    aside = {f"#/components/parameters/{name}" for name, told in known.items() if told["name"] in LEFT_ASIDE}
    assert len(aside) == len(LEFT_ASIDE), known.keys()
    for told in document["paths"].values():
        for one in (told, *filter(lambda value: isinstance(value, dict), told.values())):
            one["parameters"] = [each for each in one.get("parameters", []) if each.get("$ref") not in aside]
    (directory / "openapi.json").write_bytes(orjson.dumps(document))
    (directory / "schemathesis.toml").write_text(CONFIG)


ROWS += [
    Row(
        f"schemathesis, all phases, as a {role}",
        "0 failures: statuses, forms, headers, authentication",
        partial(asked, role=role),
        partial(asked, role=role, phases="coverage", lets_in={}),
        "who shows a wrong key is let in",
        in_short=role == "sender",
    )
    for role in ("sender", "reader")
]
