"""Topology files in: every problem at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from labctl.components import Component
from labctl.errors import LabError
from labctl.topology.load import Problem, TopologyError, find, load, parse
from labctl.topology.model import NetworkRole, Topology

ZED = Path(__file__).parents[2] / "topologies" / "zed-2node.yaml"

SMALL = """\
name: small
release: zed
bases: [debian12]
networks:
  management:
    cidr: 10.0.0.0/24
nodes:
  controller:
    memory: 2 GiB
    networks:
      management: 10.0.0.11
    runs:
      - mariadb
      - memcached
      - keystone
"""


def refusal(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse(text, "lab.yaml")
    assert caught.value.message == "\n".join(str(p) for p in caught.value.problems)
    return caught.value.message.splitlines()


def small(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def test_a_right_file_is_loaded_as_written() -> None:
    topology = parse(SMALL, "lab.yaml")
    assert isinstance(topology, Topology)
    assert topology.nodes["controller"].memory == 2 * 2**30
    assert topology.nodes["controller"].runs == (Component.MARIADB, Component.MEMCACHED, Component.KEYSTONE)


def test_the_documented_topology_loads_clean() -> None:
    topology = load(ZED)
    assert topology.name == "zed-2node"
    assert topology.networks["provider"].pool is not None
    assert topology.nodes["compute"].networks["provider"] is None


def test_sizes_pools_and_disks_may_be_written_short_or_long() -> None:
    short = small("    memory: 2 GiB", "    memory: 2048\n    disks: {a: 1 GiB, b: {size: 2G}}")
    node = parse(short, "x").nodes["controller"]
    assert node.memory == 2 * 2**30
    assert [disk.size for disk in node.disks.values()] == [2**30, 2 * 2**30]
    pool = "  provider: {cidr: 203.0.113.0/24, pool: {start: 203.0.113.5, end: 203.0.113.9}}\nnodes:"
    loaded = parse(small("nodes:", pool), "x").networks["provider"].pool
    assert loaded is not None
    assert str(loaded.end) == "203.0.113.9"


def test_an_alias_stands_for_the_whole_value() -> None:
    text = small("- keystone\n", "- keystone\n  other:\n    networks: {management: 10.0.0.12}\n    runs: *none\n")
    text = text.replace("bases: [debian12]", "bases: [debian12]\ndrivers: &none [nspawn]")
    assert "nodes.other.runs[0]" in refusal(text)[0]
    assert parse(text.replace("*none", "[]"), "x").nodes["other"].runs == ()


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = small("release: zed", "release: 0.5").replace("memory: 2 GiB", "memroy: 2 GiB\n    cpus: many")
    assert [line.split(" ")[0] for line in refusal(text)] == [
        "lab.yaml:2:10:",
        "lab.yaml:9:5:",
        "lab.yaml:10:11:",
    ]


def test_rules_are_checked_beside_a_mistyped_key() -> None:
    first, second = refusal(small("release: zed", "release: zedd").replace("memory:", "memroy:"))
    assert "did you mean 'zed'" in first
    assert "did you mean 'memory'" in second


def test_rules_are_checked_beside_a_wrong_option() -> None:
    text = small("bases: [debian12]", "bases: [debain12]\noptions: {workers: 0}\ndescription: 3")
    assert len(refusal(text)) == 3


def test_consequences_of_a_mistyped_component_are_not_reported() -> None:
    (line,) = refusal(small("- mariadb", "- mariadbb"))
    assert line.startswith("lab.yaml:13:9: nodes.controller.runs[0]: unknown component 'mariadbb'; did you mean")


def test_an_unknown_key_is_placed_and_lists_the_known_ones() -> None:
    (line,) = refusal(small("    cidr:", "    gatway: 10.0.0.1\n    cidr:"))
    assert line == (
        "lab.yaml:6:5: networks.management.gatway: unknown key 'gatway'; did you mean 'gateway'? "
        "known: cidr, role, gateway, nat, mtu, physical, vlan, vlans, pool, dns, ipv6, ipv6_gateway"
    )


def test_a_missing_key_is_placed_at_what_lacks_it() -> None:
    (line,) = refusal(small("    cidr: 10.0.0.0/24", "    nat: true"))
    assert line == "lab.yaml:5:3: networks.management.cidr: the key 'cidr' is missing"


def test_a_key_given_twice_names_the_first_line() -> None:
    (line,) = refusal(small("release: zed", "release: zed\nrelease: train"))
    assert line == "lab.yaml:3:1: release: duplicate key 'release', first on line 2"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("release: zed", "release: 1024.1", "release: YAML reads 1024.1 as a number"),
        ("name: small", "name: on", "YAML reads on as a boolean, expected text; quote it: 'on'"),
        ("name: small", "name: 10.0", "quote it: '10.0'"),
        ("name: small", "name: null", "quote it: 'null'"),
        ("name: small", "name:", "expected text, found nothing"),
        ("nodes:", "fixtures: {cirros: 0.5}\nnodes:", "fixtures.cirros: YAML reads 0.5 as a number"),
        ("name: small", "name: 12:30:45", "as a number in base 60; quote it"),
        ("    memory: 2 GiB", "    cpus: 010", "as a number in base 8"),
        ("    memory: 2 GiB", "    cpus: 0x10", "as a number in base 16"),
        ("    memory: 2 GiB", "    cpus: 0b10", "as a number in base 2"),
        ("    memory: 2 GiB", "    cpus: 1_0", "plain decimal"),
        ("  controller:\n", "  no:\n", "YAML reads the key no as a boolean; quote it: 'no'"),
    ],
)  # fmt: skip
def test_words_that_yaml_reads_as_something_else_are_to_be_quoted(old: str, new: str, said: str) -> None:
    (line,) = refusal(small(old, new))
    assert said in line


def test_a_quoted_number_is_text() -> None:
    assert parse(small("nodes:", "fixtures: {cirros: '0.5'}\nnodes:"), "x").fixtures.cirros == "0.5"
    assert parse(small("nodes:", "fixtures: {cirros: !!str 0.5}\nnodes:"), "x").fixtures.cirros == "0.5"


def test_a_date_is_text() -> None:
    assert parse(small("nodes:", "description: 2024-01-01\nnodes:"), "x").description == "2024-01-01"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory: 2 GiB", "cpus: yes", "expected a whole number, found yes as a boolean"),
        ("memory: 2 GiB", "cpus: '2'", "expected a whole number, found the text '2'"),
        ("memory: 2 GiB", "cpus: 65", "must be at most 64, found 65"),
        ("memory: 2 GiB", "cpus: 0", "must be at least 1"),
        ("memory: 2 GiB", "memory: 0", "0 MiB is not a machine's memory"),
        ("memory: 2 GiB", "memory: 1.5", "write a size like '4 GiB'"),
        ("memory: 2 GiB", "memory: lots", "'lots' is not a size"),
        ("memory: 2 GiB", "disks: {a: much}", "disks.a: 'much' is not a size"),
        ("memory: 2 GiB", "disks: {A: 1 GiB}", "'A' is not a name: lower-case"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.7/24", "did you mean 10.0.0.0/24?"),
        ("cidr: 10.0.0.0/24", "cidr: wide", "expected a network like 10.0.0.0/24"),
        ("cidr: 10.0.0.0/24", "cidr: 10", "expected a network"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.0/24\n    role: managment", "did you mean 'management'"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.0/24\n    role: on", "unknown role 'on'"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.0/24\n    nat: maybe", "expected true or false"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.0/24\n    pool: 10.0.0.5", "write an address range as FIRST-LAST"),
        ("cidr: 10.0.0.0/24", "cidr: 10.0.0.0/24\n    pool: 1-2", "pool: expected an address range"),
        ("management: 10.0.0.11", "management: 10.0", "or none for no address; found 10.0 as a number"),
        ("management: 10.0.0.11", "management: 10.0.0.256", "found the text '10.0.0.256'"),
        ("bases: [debian12]", "bases: debian12", "a list ([one, two]"),
        ("bases: [debian12]", "bases: []", "must not be empty"),
        (
            "bases: [debian12]",
            "bases: [debian12]\noptions: 3",
            "expected a mapping of keys, found 3 as a number",
        ),
        ("name: small", f"name: {'a' * 41}", "too long: at most 40"),
        ("- mariadb", "- [mariadb]", "expected a component"),
    ],
)
def test_a_value_of_the_wrong_form_says_what_is_meant(old: str, new: str, said: str) -> None:
    assert any(said in line for line in refusal(small(old, new)))


def test_a_secret_is_never_shown() -> None:
    for value in ("12345", "'with blank 12345'", "[12345]"):
        assert "12345" not in "".join(refusal(small("nodes:", f"passwords: {{admin: {value}}}\nnodes:")))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n", "---\n...\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert "empty" in refusal(text)[0]


@pytest.mark.parametrize(("text", "found"), [("- a\n", "a list"), ("hello\n", "the text 'hello'")])
def test_a_file_that_is_no_mapping_is_refused(text: str, found: str) -> None:
    assert found in refusal(text)[0]


def test_a_second_document_is_refused_where_it_begins() -> None:
    (line,) = refusal(SMALL + "---\nname: other\n")
    assert line == "lab.yaml:16:1: a second document begins; a file holds one topology"


def test_a_syntax_error_is_placed() -> None:
    (line,) = refusal(small("bases: [debian12]", "bases: [debian12"))
    assert line.startswith("lab.yaml:4:9: not YAML:")


def test_each_tab_that_indents_is_placed() -> None:
    lines = refusal(SMALL.replace("    cidr", "\tcidr").replace("    memory", "  \tmemory"))
    assert [line.split(" ")[0] for line in lines] == ["lab.yaml:6:1:", "lab.yaml:9:3:"]
    assert "found a tab" in lines[0]


def test_a_tab_inside_a_text_is_no_problem() -> None:
    assert parse(small("nodes:", 'description: "a\tb"\nnodes:'), "x").description == "a\tb"


def test_a_control_character_is_placed() -> None:
    (line,) = refusal(small("bases:", "description: \x01\nbases:"))
    assert line.startswith("lab.yaml:3:14: character '\\x01'")


def test_deep_nesting_is_refused() -> None:
    assert "nesting" in refusal("[" * 5000)[0]
    assert "nested deeper" in refusal("[x, " * 50)[0]


def test_aliases_that_expand_without_end_are_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, other in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{one}: &{one} [" + ", ".join([f"*{other}"] * 9) + "]\n"
    assert "aliases" in refusal(bomb)[0]


def test_as_many_values_are_read_as_a_lab_of_ten_thousand_nodes_has_and_not_many_more() -> None:
    assert not any("too many values" in line for line in refusal("a: [" + "x, " * 75_000 + "x]\n"))
    assert "too many values" in refusal("a: [" + "x, " * 150_000 + "x]\n")[0]


def test_a_long_text_repeated_by_aliases_is_refused() -> None:
    assert "aliases" in refusal("a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 50) + "]\n")[0]


def test_an_alias_that_holds_itself_is_refused() -> None:
    assert any("contains itself" in line for line in refusal("a: &a [*a]\n"))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("x: !foo 3", "the YAML tag !foo"),
        ("x: !!python/object:os.system {}", "the YAML tag !!python/object:os.system"),
        ("<<: {description: x}", "merge keys"),
        ("? [a]\n: b", "a key must be a word"),
        ("x: " + "9" * 200, "100 digits"),
        ("x: '" + "٣" * 400 + " G'", "100 digits"),
        ('x: "\\ud800"', "Unicode character escape"),
        ('"\\ud800": x', "Unicode character escape"),
        ('x: "\\UFFFFFFFF"', "not YAML"),
    ],
)
def test_yaml_beyond_plain_values_is_refused(new: str, said: str) -> None:
    assert any(said in line for line in refusal(small("nodes:", f"{new}\nnodes:")))


def test_what_is_not_utf8_is_placed(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: small\ndescription: caf\xe9\n")
    with pytest.raises(TopologyError, match=r"latin.yaml:2:17: byte 0xe9 is not UTF-8"):
        load(file)


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load(file).name == "small"


def test_a_file_larger_than_one_mebibyte_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text(SMALL + "#" * 2**20)
    with pytest.raises(TopologyError, match="larger than 1 MiB"):
        load(file)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path)


def test_find_takes_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SMALL)
    assert find(str(file)) == file
    with pytest.raises(LabError, match=r"topology file .* not found"):
        find(str(tmp_path / "other.yaml"))


def test_find_prefers_the_topologies_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("zed-2node") == ZED
    (tmp_path / "topologies").mkdir()
    own = tmp_path / "topologies" / "zed-2node.yaml"
    own.write_text(SMALL)
    assert find("zed-2node").resolve() == own


def test_find_lists_the_known_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match=r"did you mean 'zed-2node'\? known: .*zed-2node"):
        find("zed-2nod")


def test_a_network_called_after_a_role_needs_no_role() -> None:
    assert parse(SMALL, "x").networks["management"].role is None
    named = SMALL.replace("management", "lan").replace("cidr:", "role: management\n    cidr:")
    assert parse(named, "x").networks["lan"].role is NetworkRole.MANAGEMENT


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        parse(text, "x")
    except TopologyError as error:
        # Messages can be printed, whatever the file holds.
        error.message.encode()
        return error.problems
    return ()


def survives(text: str) -> None:
    assert all(p.line >= 1 and p.column >= 1 and p.message for p in problems_of(text))


@settings(max_examples=150, deadline=None)
@given(st.text())
@example("%YAML " + "9" * 5000 + ".1\n---\na: b")
@example("? \n: -")
@example("&a : *a")
@example("!<tag:yaml.org,2002:int> x: !!int y")
@example("a: !!float x\nb: !!bool x\nc: !!null x")
def test_parse_raises_nothing_but_topology_errors_on_any_text(text: str) -> None:
    survives(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(min_value=0, max_value=len(SMALL)),
    st.integers(min_value=0, max_value=12),
    st.text(alphabet="-: \n\t[]{}&*!|>'\"%@`#,?<~=\\U0189axyz_.\ud800é", max_size=8),
)
def test_parse_raises_nothing_but_topology_errors_on_a_damaged_file(at: int, cut: int, put: str) -> None:
    survives(SMALL[:at] + put + SMALL[at + cut :])


@pytest.mark.parametrize("text", ["!0 {a: 1}\n", "!0\nname: x\n", "!!set {name}\n", "!0 [a]\n"])
def test_a_whole_file_with_a_yaml_tag_is_refused_at_the_tag(text: str) -> None:
    (line, *_) = refusal(text)
    assert line.startswith("lab.yaml:1:1: ")
