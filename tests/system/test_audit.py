"""The audit log of a running service: who was not let in is there, also when the process is told to end."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.gridgov import NO_KAFKA, Gridgov, alone, report, until

SECRET = "s" * 43


@pytest.fixture
def web(tmp_path: Path) -> Gridgov:
    return Gridgov(tmp_path / "var", kafka=NO_KAFKA)


def lines(web: Gridgov) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in web.run("audit", "list", check=True).stdout.splitlines()]


def test_who_was_not_let_in_is_told_whatever_comes_between(web: Gridgov) -> None:
    web.run("keys", "add", "platform", "--role", "sender", check=True)
    key = {"Authorization": f"Bearer gg_0123abcd_{SECRET}"}
    with alone(web):
        assert web.post(report(1), **key)[0] == 401
        refused = until(lambda: [one for one in lines(web) if one["what"] == "authentication"], "the first is told")
        told = {"who": "key 0123abcd", "from": "127.0.0.1", "result": "refused"}
        assert told.items() <= refused[0].items()

        audit = web.data_dir / "audit"
        audit.rename(audit.with_name("aside"))
        audit.write_text("in the way")
        assert web.post(report(1))[0] == 401  # of another sort, so it is due at once
        until(lambda: "audit_unwritten" in web.get("/readyz")[1]["reasons"], "it is told")
        audit.unlink()
        audit.with_name("aside").rename(audit)
        until(lambda: "audit_unwritten" not in web.get("/readyz")[1]["reasons"], "it is well again")
        for _ in range(6):
            assert web.post(report(1), **key)[0] == 401
    numbers = [one["about"].get("times", 1) for one in lines(web) if one["what"] == "authentication"]  # type: ignore[attr-defined]
    assert numbers == [1, 1, 6]  # the last line is written when the process ends
    assert "lines, the last is 5:" in web.run("audit", "verify", check=True).stdout
    assert SECRET not in "".join(path.read_text() for path in (web.data_dir / "audit").iterdir())
