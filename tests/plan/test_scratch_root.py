"""Whole programs of a CentOS node, run in a scratch root: every file is written, every tool is a stand-in that
remembers. What they were asked is a golden list, so a reviewer sees what a node would really be told."""

from __future__ import annotations

import re
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from support import ROOT, planned, specify

from labctl.host import process
from labctl.operations.node import Unit, flatten
from labctl.operations.runner import archive
from labctl.secret import Secret
from labctl.topology.spec import LabSpec

pytestmark = pytest.mark.system
GOLDEN = ROOT / "tests" / "golden" / "calls"
STAGES = ("prepare", "packages", "sql", "infrastructure")

#: Every stand-in is this program under another name. It keeps what a real tool would keep.
STAND_IN = r"""#!/bin/sh
state=/labctl-test
name=${0##*/}
[ "$name" = sudo ] || printf '%s %s\n' "$name" "$*" >>"$state/calls"
case "$name $1" in
"rpm -q") shift 2; for p; do [ -e "$state/installed/$(echo "$p" | tr / _)" ] || exit 1; done ;;
"yum install" | "dnf install") shift 2; for p; do : >"$state/installed/$(echo "$p" | tr / _)"; done
    case "$*" in centos-release-*) cp "$state/dropped/"* /etc/yum.repos.d/ ;; esac ;;
"dnf -y") [ "$2 $3" != "module enable" ] || { mkdir -p /etc/dnf/modules.d
    printf '[%s]\nstream=%s\n' "${4%:*}" "${4#*:}" >"/etc/dnf/modules.d/${4%:*}.module"; } ;;
"hostnamectl set-hostname") echo "$2" >/etc/hostname ;;
"hostname ") cat /etc/hostname ;;
"chkconfig network") if [ "${2:-}" = on ]; then : >"$state/network"; else [ -e "$state/network" ]; fi ;;
"ip -4") ;;
"ip -o") [ ! -e "$state/up" ] || echo "3: eth1: <BROADCAST,UP>" ;;
"ip addr" | "ip link") : >"$state/up" ;;
"getent hosts") grep " $2\$" /etc/hosts ;;
"getenforce ") cat "$state/mode" 2>/dev/null || echo Permissive ;;
"setenforce 1") echo Enforcing >"$state/mode" ;;
"setenforce 0") echo Permissive >"$state/mode" ;;
"getsebool "*) grep -qs "$1" "$state/booleans" && echo "$1 --> on" || echo "$1 --> off" ;;
"setsebool -P") echo "$*" >"$state/booleans" ;;
"semanage port") if [ "$2" = -l ]; then cat "$state/ports" 2>/dev/null
    else echo "$4   tcp  80, $7" >>"$state/ports"; fi ;;
"semanage fcontext") if [ "$2" = -l ]; then cat "$state/labels" 2>/dev/null
    else echo "$5 all files $4" >"$state/labels"; fi ;;
"firewall-cmd --state") [ -e "$state/enabled-firewalld" ] ;;
"firewall-cmd --list-ports" | "firewall-cmd --permanent") cat "$state/openings" 2>/dev/null ;;
"firewall-cmd -q") case "$*" in *--add-port*)
    echo "$*" | tr ' ' '\n' | sed -n 's/--add-port=//p' | xargs >"$state/openings" ;; esac ;;
"systemctl enable" | "systemctl --no-reload") for u; do [ -z "${u%%-*}" ] || : >"$state/enabled-$u"; done ;;
"systemctl is-enabled") for u; do :; done; [ -e "$state/enabled-$u" ] ;;
"systemctl disable") rm -f "$state/enabled-firewalld"; : >"$state/off" ;;
"systemctl restart") : >"$state/active-$2" ;;
"systemctl is-active") if [ "$2" = -q ]; then [ -e "$state/active-$3" ]; else
    if [ -e "$state/off" ]; then echo inactive; else echo active; fi; fi ;;
"rabbitmqctl -q") case $2 in authenticate_user) [ -e "$state/rabbit" ] ;; set_permissions) : >"$state/rabbit" ;; esac ;;
"mysql -u") case "$*" in *COUNT*) if [ -e "$state/named" ]; then echo 0; else echo 2; fi ;;
    *DELETE*) : >"$state/named" ;; esac ;;
"chronyc -n") echo "^* 10.0.0.11" ;;
esac
"""
TOOLS = (
    *("rpm", "yum", "dnf", "hostnamectl", "hostname", "chkconfig", "ip", "getent", "systemctl", "firewall-cmd"),
    *("getenforce", "setenforce", "getsebool", "setsebool", "semanage", "restorecon"),
    *("rabbitmqctl", "mysql", "chronyc", "curl", "gpg"),
)

#: Run in a mount namespace: the machine's own root below, everything that is written on top of it.
CHROOT = """set -eu
mkdir -p top
mount -t tmpfs labctl-test top
mkdir top/upper top/work top/root
mount -t overlay labctl-test -o lowerdir=/,upperdir=top/upper,workdir=top/work top/root
mount --bind /dev top/root/dev
cp -a node/. top/root/
rm -f top/root/usr/bin/dpkg-query top/root/usr/bin/apt-get
for n in 1 2; do
    for stage in %s; do
        chroot top/root sh /labctl-test/$stage/program.sh >said-$n-$stage || { cat said-$n-$stage; exit 1; }
    done
    mv top/root/labctl-test/calls calls-$n
done
tar -C top/upper -cf written.tar etc
"""


def prepare(spec: LabSpec, node: str, work: Path) -> None:
    """Lay out what is copied over the root: programs, stand-ins, and a system's files."""
    root = work / "node"
    for name in (
        "labctl-test/installed",
        "labctl-test/dropped",
        "usr/local/sbin",
        "etc/yum.repos.d",
        "etc/selinux",
        "etc/dnf",
    ):
        (root / name).mkdir(parents=True)
    made = planned(spec)
    secrets = {name: Secret(f"value-of-{name}") for name in made.secrets()}
    for stage in made.stages:
        if stage.name in STAGES:
            with tarfile.open(fileobj=BytesIO(archive(stage.name, stage.nodes[node], secrets))) as tar:
                tar.extractall(root / "labctl-test" / stage.name, filter="data")
    for tool in TOOLS:
        path = root / "usr/local/sbin" / tool
        path.write_text(STAND_IN)
        path.chmod(0o755)
    mirrors = (
        "[{0}]\nname=x\nmirrorlist=http://mirrorlist.centos.org/?x\n#baseurl=http://mirror.centos.org/centos/7/{1}/\n"
    )
    (root / "etc/yum.repos.d/CentOS-Base.repo").write_text(mirrors.format("base", "os/$basearch"))
    (root / "labctl-test/dropped/CentOS-OpenStack.repo").write_text(mirrors.format("cloud", "cloud/$basearch/x"))
    (root / "etc/selinux/config").write_text("SELINUX=permissive\nSELINUXTYPE=targeted\n")
    (root / "etc/dnf/dnf.conf").write_text("[main]\ngpgcheck=1\n")
    (root / "etc/hostname").write_text("localhost\n")


def states(work: Path, run: int) -> list[str]:
    said = "".join((work / f"said-{run}-{stage}").read_text() for stage in STAGES)
    return re.findall(r"^##labctl \d+ (\w+)", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("lab", "base", "node"),
    [
        ("train-2node", "centos7", "controller"),
        ("mitaka-3node", "centos7", "block1"),
        ("ussuri-6node", "centos8", "controller"),
        ("ussuri-6node", "centos8", "storage1"),
    ],
)
def test_a_nodes_programs_ask_what_the_golden_list_says_and_nothing_the_second_time(
    lab: str, base: str, node: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    spec = specify(ROOT / "topologies" / f"{lab}.yaml", base=base)
    prepare(spec, node, tmp_path)
    process.run(["unshare", "--mount", "sh", "-c", CHROOT % " ".join(STAGES)], cwd=tmp_path, timeout=120)

    calls = (tmp_path / "calls-1").read_text()
    assert "value-of-" not in re.sub(r"value-of-RABBIT_PASS", "", calls), "a secret is an argument of a tool"
    calls = calls.replace("value-of-RABBIT_PASS", "RABBIT_PASS")
    # units are started side by side, in an order that nobody promises
    units = {o.name for s in planned(spec).stages for o in flatten(tuple(s.nodes.get(node, ()))) if isinstance(o, Unit)}
    kept = [
        c for c in calls.splitlines() if not re.search(rf"^systemctl \S+ .*\b({'|'.join(map(re.escape, units))})$", c)
    ]
    started = sorted(
        c
        for c in set(calls.splitlines())
        if re.match(r"systemctl ((--no-reload )?enable|restart) ", c) and c not in kept
    )
    text = "\n".join([*kept, "# side by side:", *started]) + "\n"
    golden = GOLDEN / f"{lab}-{node}.txt"
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.read_text() == text, "pytest tests/plan/test_scratch_root.py --update-golden, then look at git diff"

    assert "changed" in states(tmp_path, 1)
    assert set(states(tmp_path, 2)) == {"ok"}
    changes = (
        r"^(yum|dnf) (?!module)|set-hostname|setenforce|setsebool|semanage \w+ -[am]|--add-port|restart|add_user|DELETE"
    )
    assert not re.findall(changes, (tmp_path / "calls-2").read_text(), re.MULTILINE)

    with tarfile.open(tmp_path / "written.tar") as tar:
        repositories = [m for m in tar.getmembers() if m.name.endswith(".repo")]
        assert len(repositories) == 2
        for member in repositories:
            found = tar.extractfile(member)
            assert found is not None
            assert b"\nbaseurl=http://vault.centos.org/" in found.read()
    shutil.rmtree(tmp_path / "node")
