"""Mistakes of the Train and Mitaka notes (docs/facts/seed-errata.md, 000, 001 and 002) that an install cannot have."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.components import Component
from labctl.host import process
from labctl.images import guest
from labctl.operations.node import Database, Unit
from labctl.secret import names, within

if TYPE_CHECKING:
    from conftest import Lab

INTERFACES = ["public", "internal", "admin"]


def endpoints(lab: Lab) -> list[list[str]]:
    """The words of every command that makes an endpoint, as a shell hands them over."""
    lines = [line for line in lab.typed.splitlines() if line.startswith("openstack endpoint")]
    script = 'openstack() { for w in "$@"; do printf \'%s\\t\' "$w"; done; echo; }\n' + "\n".join(lines)
    said = process.run(["sh", "-eu"], stdin=script).stdout
    return [line.rstrip("\t").split("\t") for line in said.splitlines()]


def urls(lab: Lab, kind: str) -> list[str]:
    return [words[-1] for words in endpoints(lab) if words[4] == kind]


def test_errata_0_1_bootstrap_is_a_command_with_a_password_option(lab: Lab) -> None:
    """`keystone-manage bootstrap-password` is not a command."""
    runs = re.findall(r"keystone-manage (\S+) (\S+)", lab.typed)
    assert ("bootstrap", "--bootstrap-password") in runs
    assert {name for name, _ in runs} <= {"db_sync", "fernet_setup", "credential_setup", "bootstrap"} | {'db_sync"'}


def test_errata_0_2_credentials_come_from_the_environment_scripts(lab: Lab) -> None:
    """`--os-auth-rul` is not an option; the guide types no such option."""
    assert "--os-auth" not in lab.typed
    assert "export OS_AUTH_URL=" in lab.files["controller"]["/root/admin-openrc"]


def test_errata_0_3_environment_scripts_hold_assignments_only(lab: Lab, tmp_path: Path) -> None:
    """`// remark` after a value would be an argument of export."""
    for name in ("admin-openrc", "demo-openrc"):
        text = lab.files["controller"][f"/root/{name}"]
        assert all(re.fullmatch(r"export OS_[A-Z_]+=\S+", line) for line in text.splitlines())
        said = process.run(["sh", "-euc", ". ./openrc && env"], cwd=_write(tmp_path, "openrc", text)).stdout
        assert "//" not in re.sub(r"http://", "", said)


def _write(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory


def test_errata_0_4_no_value_ends_in_a_remark_with_slashes(lab: Lab) -> None:
    """oslo.config would keep `// …` in the password."""
    assert lab.settings
    assert not [s for s in lab.settings if re.search(r"\s//", s.value)]


def test_errata_0_5_no_value_ends_in_a_remark_with_a_hash(lab: Lab) -> None:
    """Comments are on their own lines."""
    assert not [s for s in lab.settings if re.search(r"\s#", s.value)]


def test_errata_0_6_both_grants_have_the_password_of_the_url(lab: Lab) -> None:
    """`GLACE_DBPASS` in one of two grants: local logins fail."""
    for stage in lab.plan.stages:
        for operation in (o for node in stage.nodes for o in lab.operations(stage.name, node)):
            if isinstance(operation, Database):
                passwords = {p for s in operation.statements() for p in re.findall(r"IDENTIFIED BY '(.*)'", s)}
                assert passwords == {within(operation.password, "sql")}
                urls = [
                    s.value
                    for s in lab.settings
                    if s.option in ("connection", "url") and s.value.endswith(f"/{operation.name}")
                ]
                if operation.name != "nova_cell0":
                    assert urls
                written = within(within(operation.password, "url"), "oslo")
                assert all(f":{written}@" in url for url in urls)
    assert len(re.findall(r"'@'localhost'", "\n".join(lab.sql))) == len(re.findall(r"'@'%'", "\n".join(lab.sql)))


def test_errata_0_7_every_statement_ends(lab: Lab) -> None:
    """`CREATE DATABASE placement` without a semicolon."""
    assert lab.sql
    assert [s for s in lab.sql if not s.endswith(";")] == ["exit"] * lab.sql.count("exit")


def test_errata_0_8_no_backslash_within_a_statement(lab: Lab) -> None:
    """A backslash continues a line, and is a syntax error within one."""
    assert not [s for s in lab.sql if "\\" in s]


def test_errata_0_10_endpoint_create_has_its_verb_and_three_interfaces(lab: Lab) -> None:
    """`openstack endpoint --region …` lacks its verb."""
    made = endpoints(lab)
    assert made
    assert all(words[:4] == ["endpoint", "create", "--region", "RegionOne"] for words in made)
    for kind in {words[4] for words in made}:
        assert [words[5] for words in made if words[4] == kind] == INTERFACES


def test_errata_0_11_the_image_is_the_file_that_was_downloaded(tmp_path: Path) -> None:
    """The command names `x86-64`, the downloaded file has `x86_64`."""
    asked: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert guest.fetch_cirros("0.4.0", tmp_path, 5, sites=[f"http://127.0.0.1:{server.server_address[1]}"]) is None
        server.shutdown()
    assert asked == ["/0.4.0/cirros-0.4.0-x86_64-disk.img"]


def test_errata_0_12_apache_may_run_placement(labs: dict[str, Lab]) -> None:
    """The packaged site does not grant access to /usr/bin: every request gets a 403."""
    with_placement = [lab for lab in labs.values() if lab.spec.has(Component.PLACEMENT)]
    assert len(with_placement) == 3
    for lab in with_placement:
        node = lab.spec.host_of(Component.PLACEMENT).name
        grant = lab.files[node]["/etc/httpd/conf.d/00-labctl-placement.conf"]
        assert re.search(r"<Directory /usr/bin>.*Require all granted.*</Directory>", grant, re.DOTALL)
        starts = [o for o in lab.operations("services", node) if isinstance(o, Unit) and o.name == "httpd"]
        assert any(grant in text for unit in starts for text in unit.inputs)


def test_errata_1_1_nothing_is_hardened_by_a_dialogue(lab: Lab) -> None:
    """`mysql_secure_installtion` is misspelt; databases are created through the socket, without a dialogue."""
    assert "mysql_secure" not in lab.typed
    assert "mysql -u root" in lab.typed


def test_errata_1_2_a_daemon_that_runs_reads_its_changed_file(lab: Lab) -> None:
    """`systemctl start` has no effect on a running chronyd."""
    assert re.search(r"^systemctl restart chronyd$", lab.typed, re.MULTILINE)
    assert not re.search(r"systemctl start ", lab.typed)
    for node, files in lab.files.items():
        (unit,) = (u for u in lab.operations("infrastructure", node) if isinstance(u, Unit) and u.name == "chronyd")
        assert files["/etc/chrony.conf"] in unit.inputs


def rewrites(lab: Lab) -> list[str]:
    words = ("repositories on the vault", "centos-release-openstack")
    return [t for t in lab.titles("packages", "controller") if t.startswith(words)]


def test_errata_1_4_repositories_are_rewritten_before_and_after_the_release_package(train: Lab) -> None:
    """The package installs files that name mirrors which no longer exist."""
    assert rewrites(train) == [
        "repositories on the vault, before the release package",
        "centos-release-openstack-train",
        "repositories on the vault, after it",
    ]


def test_errata_1_11_max_connections_has_the_files_it_needs(lab: Lab) -> None:
    """systemd's limit of open files reduces it to 214."""
    files = lab.files[lab.spec.host_of(Component.MARIADB).name]
    assert "max_connections = 4096" in files["/etc/my.cnf.d/openstack.cnf"]
    limit = re.search(r"LimitNOFILE=(\d+)", files["/etc/systemd/system/mariadb.service.d/limits.conf"])
    assert limit is not None
    assert int(limit[1]) > 4096 + 1024


def test_errata_2_1_the_section_is_keystone_authtoken(mitaka: Lab) -> None:
    """`[keystone_authstoken]` is an unknown section: every call returns 401."""
    assert mitaka.value("controller", "nova.conf", "keystone_authtoken", "username") == "nova"
    assert {s.section for s in mitaka.settings if "auths" in s.section or "auth_token" in s.section} == set()


def test_errata_2_2_vnc_addresses_have_the_names_of_the_release(mitaka: Lab) -> None:
    """`vncserver_proxycient_address` is not an option."""
    for node, extra in (("controller", set()), ("compute1", {"novncproxy_base_url"})):
        names = {s.option for s in mitaka.settings if (s.node, s.section) == (node, "vnc")}
        assert names == {"enabled", "vncserver_listen", "vncserver_proxyclient_address"} | extra


def test_errata_2_3_an_endpoints_template_reaches_keystone_whole(mitaka: Lab) -> None:
    """Unquoted, the shell stops at `(`."""
    assert urls(mitaka, "compute") == ["http://controller:8774/v2.1/%(tenant_id)s"] * 3


def test_every_mark_that_is_typed_is_a_secret_of_the_plan(lab: Lab) -> None:
    """No placeholder is misspelt anywhere (0-9 and the like)."""
    known = lab.plan.secrets()
    used = {n for files in lab.files.values() for text in files.values() for n in names(text)}
    assert used <= known
