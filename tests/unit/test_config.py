"""The configuration: every option declared once and documented, every mistake told, all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.app import checked
from service.config import Config, ConfigError, env_name, is_loopback, load, options


def problems(**env: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(env)
    return error.value.problems


def test_without_any_option_the_defaults_hold() -> None:
    config = load({"PATH": "/bin", "HOME": "/root"})

    assert (config.host, config.port, config.web_metrics_port, config.relay_metrics_port) == (
        "127.0.0.1",
        8080,
        9464,
        9465,
    )
    assert config.kafka_servers == ("127.0.0.1:9092",)
    assert config.keys == Path("var/keys.json")
    assert config.loopback
    assert config.kafka_password() is None


def test_every_default_is_a_value_its_own_parser_takes() -> None:
    for option in options():
        option.metadata["parse"](option.metadata["default"])


def test_every_option_is_documented() -> None:
    for option in options():
        assert len(option.metadata["doc"]) > 5, option.name
        assert env_name(option) == "KAFKA_BOOTSTRAP_SERVERS" or env_name(option) == f"GRIDGOV_{option.name.upper()}"


def test_sizes_and_times_say_their_unit() -> None:
    config = load({})
    for option in options():
        if isinstance(getattr(config, option.name), int) and not isinstance(getattr(config, option.name), bool):
            assert option.metadata["unit"], option.name


def test_each_option_reaches_its_field(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim\nsecond line\n")
    config = load(
        {
            "GRIDGOV_DATA_DIR": "/srv/gridgov",
            "GRIDGOV_HOST": "0.0.0.0",
            "GRIDGOV_PORT": " 80 ",
            "GRIDGOV_UNKNOWN_MINOR": "accept_and_flag",
            "GRIDGOV_ALLOW_VOLATILE": "yes",
            "KAFKA_BOOTSTRAP_SERVERS": "a:9092, b:9093,[::1]:9094",
            "GRIDGOV_KAFKA_PROTOCOL": "SASL_SSL",
            "GRIDGOV_KAFKA_USER": "gridgov",
            "GRIDGOV_KAFKA_PASSWORD_FILE": str(secret),
        }
    )

    assert (config.data_dir, config.keys) == (Path("/srv/gridgov"), Path("/srv/gridgov/keys.json"))
    assert (config.host, config.port, config.loopback) == ("0.0.0.0", 80, False)
    assert (config.unknown_minor, config.allow_volatile) == ("accept_and_flag", True)
    assert config.kafka_servers == ("a:9092", "b:9093", "[::1]:9094")
    assert (config.kafka_user, config.kafka_password()) == ("gridgov", "geheim")


def test_a_password_is_kept_nowhere_in_the_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim")
    config = load({"GRIDGOV_KAFKA_PASSWORD_FILE": str(secret)})

    assert "geheim" not in repr(config)


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 1), (8, 7)])
def test_auto_leaves_one_core_to_others(monkeypatch: pytest.MonkeyPatch, cores: int, processes: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))

    assert load({"GRIDGOV_WEB_PROCESSES": "auto"}).web_processes == processes
    assert load({}).web_processes == 1


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        GRIDGOV_PORT="eighty",
        GRIDGOV_QUEUE="1",
        GRIDGOV_UNKNOWN_MINOR="maybe",
        GRIDGOV_DATA_DIR="",
        KAFKA_BOOTSTRAP_SERVERS="nowhere",
        GRIDGOV_PROT="8080",
        GRIDGOV_CATALOGUE_DIR="/no/such/place",
        GRIDGOV_KAFKA_PROTOCOL="SASL_SSL",
        GRIDGOV_WEB_METRICS_PORT="9465",
    )

    told = {problem.partition(":")[0].partition("=")[0].partition(",")[0] for problem in found}
    assert told == {
        "GRIDGOV_PORT",
        "GRIDGOV_QUEUE",
        "GRIDGOV_UNKNOWN_MINOR",
        "GRIDGOV_DATA_DIR",
        "KAFKA_BOOTSTRAP_SERVERS",
        "GRIDGOV_PROT",
        "GRIDGOV_CATALOGUE_DIR",
        "GRIDGOV_KAFKA_PROTOCOL",
    }
    assert len(found) == 9  # two of them about ports


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRIDGOV_PORT", "0"),
        ("GRIDGOV_PORT", "65536"),
        ("GRIDGOV_PORT", "-1"),
        ("GRIDGOV_WEB_PROCESSES", "0"),
        ("GRIDGOV_WEB_PROCESSES", "many"),
        ("GRIDGOV_PORT", "8_080"),
        ("GRIDGOV_PORT", "８０８０"),
        ("GRIDGOV_PORT", "9" * 5000),
        ("GRIDGOV_PORT", ""),
        ("GRIDGOV_ALLOW_VOLATILE", "true"),
        ("GRIDGOV_HOST", " "),
        ("GRIDGOV_DATA_DIR", "~no-such-user-here/var"),
        ("GRIDGOV_DATA_DIR", "/srv/two\nlines"),
        ("GRIDGOV_DATA_DIR", "/srv/caf\udce9"),  # a byte that is no UTF-8
        ("GRIDGOV_KEYS_FILE", "/srv/\x1b[31m.json"),
        ("GRIDGOV_KAFKA_CA_FILE", "/no/such/file"),
        ("GRIDGOV_KAFKA_CA_FILE", "a" * 5000),
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,"),
        ("KAFKA_BOOTSTRAP_SERVERS", ":9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:0"),
        ("GRIDGOV_LOG_LEVEL", "info"),
    ],
)
def test_what_an_option_does_not_take_is_told_with_its_name(name: str, value: str) -> None:
    [problem] = problems(**{name: value})

    assert problem.startswith(name)


@pytest.mark.parametrize("name", ["GRIDGOV_", "GRIDGOV_port", "GRIDGOV_KAFKA_SERVERS", "GRIDGOV_KAFKA_PASSWORD"])
def test_a_name_that_is_no_option_is_refused(name: str) -> None:
    [problem] = problems(**{name: "1"})

    assert problem.startswith(f"{name}: no such option")


def test_other_programs_variables_are_not_ours() -> None:
    load({"KAFKA_HEAP_OPTS": "-Xmx1g", "GRID": "1", "gridgov_port": "x"})


@pytest.mark.parametrize("content", ["", "\n", "  \nsecret"])
def test_a_password_file_without_a_password_stops_the_start(tmp_path: Path, content: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(content)

    [problem] = problems(GRIDGOV_KAFKA_PASSWORD_FILE=str(secret))

    assert problem.startswith("GRIDGOV_KAFKA_PASSWORD_FILE")


def test_sasl_needs_a_user_and_a_password() -> None:
    [problem] = problems(GRIDGOV_KAFKA_PROTOCOL="SASL_PLAINTEXT", GRIDGOV_KAFKA_USER="gridgov")

    assert "GRIDGOV_KAFKA_USER" in problem


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.1.2.3", False),
        ("localhost.example.cn", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load({}).port = 1  # type: ignore[misc]
    assert isinstance(load({}), Config)


def test_what_is_no_address_of_a_postgresql_is_told_without_its_password(tmp_path: Path) -> None:
    for url in ("mysql://u:geheim@h/d", "postgresql://u:geheim@h/d?nothing=1"):
        env = {"GRIDGOV_JOURNAL": url, "GRIDGOV_DATA_DIR": str(tmp_path), "GRIDGOV_ALLOW_VOLATILE": "yes"}
        with pytest.raises(ConfigError) as error:
            checked(load(env))
        assert "GRIDGOV_JOURNAL" in str(error.value)
        assert "geheim" not in str(error.value)
