"""The project's own rules, kept by tests: docs/architecture.md and the habits it names."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from labctl.host import process
from labctl.releases import RELEASES

PACKAGE = ROOT / "labctl"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Programs for a node's own interpreter; labctl imports none of them.
ON_NODES = {PACKAGE / "operations/forked.py"}
TREES = {path: ast.parse(path.read_text()) for path in MODULES if path not in ON_NODES}
LONGEST = 400
NAMES = {
    *("mitaka", "newton", "ocata", "pike", "queens", "rocky", "stein", "train", "ussuri", "victoria", "wallaby"),
    *("xena", "yoga", "zed", "antelope", "bobcat", "caracal", "dalmatian", "epoxy", "flamingo"),
    *("centos7", "centos8", "debian11", "debian12", "debian13", "centos", "debian"),
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level packages that a module imports, anywhere in it."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name.split(".")[0] for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            yield item.module.split(".")[0]


def importers(package: str) -> set[str]:
    return {name(path) for path, tree in TREES.items() if package in imports(tree)}


def test_processes_start_in_one_module() -> None:
    assert importers("subprocess") == {"labctl/host/process.py"}
    starters = ("system", "popen", "fork", "forkpty", "posix_spawn", "execv", "execve", "execvp", "execvpe", "spawnv")
    found = {
        f"{name(path)}:{item.lineno}"
        for path, tree in TREES.items()
        for item in ast.walk(tree)
        if isinstance(item, ast.Attribute)
        and item.attr in starters
        and isinstance(item.value, ast.Name)
        and item.value.id == "os"
    }
    assert found == set()


def test_no_kernel_that_may_be_emulated_tests_its_timer() -> None:
    """Under load the test fails for an emulated timer, and the kernel panics (Launchpad bugs 1312199, 1939108)."""
    under_kvm = "labctl/operations/kvm.sh"
    texts = {
        name(path): path.read_text()
        for path in (*PACKAGE.rglob("*"), *(ROOT / "kickstart").iterdir())
        if path.suffix in (".py", ".sh", ".txt", ".j2")
    }
    boots = {path: text for path, text in texts.items() if "console=ttyS0" in text}
    assert {path for path, text in boots.items() if "no_timer_check" not in text} == {under_kvm}
    assert len(boots) > 5


def test_ssh_is_spoken_in_one_module_for_nodes_and_one_for_guests() -> None:
    assert importers("paramiko") == {"labctl/host/ssh.py", "labctl/testing/guest.py"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_not_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def test_no_error_is_swallowed() -> None:
    found = []
    for path, tree in TREES.items():
        for item in ast.walk(tree):
            if not isinstance(item, ast.ExceptHandler):
                continue
            broad = item.type is None or (
                isinstance(item.type, ast.Name) and item.type.id in ("Exception", "BaseException")
            )
            if broad and all(isinstance(s, ast.Pass | ast.Continue) for s in item.body):
                found.append(f"{name(path)}:{item.lineno}")
    assert found == []


def sources() -> Iterator[Path]:
    """Everything that runs or is run: not documents, not tests."""
    for folder in ("labctl", "e2e", "tools", "topologies", "vagrant", "kickstart", ".ci"):
        yield from (p for p in sorted((ROOT / folder).rglob("*")) if p.is_file() and "__pycache__" not in p.parts)
    yield ROOT / "Makefile"


def test_host_keys_are_always_checked() -> None:
    words = ("StrictHostKeyChecking=no", "StrictHostKeyChecking no", "AutoAddPolicy", "UserKnownHostsFile=/dev/null")
    found = [
        f"{name(path)}: {word}" for path in sources() for word in words if word in path.read_text(errors="replace")
    ]
    assert found == []


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.parent.name in ("services", "plan")], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_services_and_plan_branch_on_facts_and_not_on_names(path: Path) -> None:
    found = []
    for item in ast.walk(TREES[path]):
        # a name anywhere in a comparison, a match, a set or a dictionary would be such a branch
        if isinstance(item, ast.Compare):
            parts = [item.left, *item.comparators]
            words = [c.value for p in parts for c in ast.walk(p) if isinstance(c, ast.Constant)]
            named = [p for p in parts if isinstance(p, ast.Attribute) and ast.unparse(p) in BRANCHES]
            family = any(isinstance(p, ast.Attribute) and p.attr == "family" for p in parts)
            if named or (not family and NAMES & {str(w) for w in words}):
                found.append(f"{name(path)}:{item.lineno}: {ast.unparse(item)}")
        elif isinstance(item, ast.Constant) and item.value in NAMES - {"debian", "centos"}:
            found.append(f"{name(path)}:{item.lineno}: {item.value!r}")
    assert found == []


BRANCHES = ("ctx.release.name", "ctx.base.name", "ctx.lab.release", "ctx.lab.base", "release.name", "base.name")


@pytest.mark.parametrize("folder", ["releases", "bases"])
def test_a_release_names_no_service_code_and_a_base_no_release(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        used = {ast.unparse(i) for i in ast.walk(TREES[path]) if isinstance(i, ast.ImportFrom)}
        assert not [u for u in used if "labctl.services" in u or "labctl.plan" in u or "labctl.operations" in u], name(
            path
        )
        if folder == "bases":
            assert not [u for u in used if "labctl.releases" in u and "releases.model" not in u], name(path)


def test_a_release_is_what_makes_it_differ_from_another() -> None:
    for release in RELEASES:
        path = PACKAGE / "releases" / f"{release}.py"
        if release != "train":  # which says every fact
            assert "replace(" in path.read_text(), name(path)
            assert len(path.read_text().splitlines()) <= (40 if release != "mitaka" else 55), name(path)


# --- linters ---------------------------------------------------------------------------------------


def tool(*words: str) -> None:
    done = process.run([sys.executable, "-m", *words], cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    tool("ruff", "check", ".")


def test_every_file_is_formatted() -> None:
    tool("ruff", "format", "--check", ".")


def test_mypy_finds_nothing() -> None:
    tool("mypy")


def scripts() -> list[Path]:
    """Shell files by name or by first line."""
    found = [p for p in ROOT.rglob("*.sh") if ".venv" not in p.parts]
    for folder in ("tools", ".ci"):
        found += [p for p in (ROOT / folder).iterdir() if p.is_file() and p.read_text().startswith("#!/bin/sh")]
    return sorted(set(found))


@pytest.mark.skipif(bool(process.missing("shellcheck")), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_any_script() -> None:
    assert PACKAGE / "operations" / "prelude.sh" in scripts()
    assert ROOT / "tools" / "test" in scripts()
    done = process.run(["shellcheck", "-s", "sh", *scripts()], check=False, timeout=120)
    assert done.returncode == 0, done.stdout


# --- files -----------------------------------------------------------------------------------------

#: What writes or removes without labctl.host.files, and why.
WRITERS = {
    "labctl/host/files.py": "is that module",
    "labctl/host/cgroup.py": "files of the kernel",
    "labctl/host/lock.py": "a lock stays the file that it was",
    "labctl/host/archive.py": "the pipe of a compressor",
    "labctl/commands/terminal.py": "/dev/null, for a closed output, and the output itself",
    "labctl/images/kvm.py": "/dev/kvm",
}
FORBIDDEN = {
    "os": "replace rename renames unlink remove rmdir removedirs mkdir makedirs symlink link mkfifo truncate chmod "
    "chown lchown",
    "shutil": "rmtree copy copy2 copyfile copytree move chown",
    "tempfile": "mkstemp mkdtemp TemporaryDirectory TemporaryFile NamedTemporaryFile SpooledTemporaryFile",
}
METHODS = {"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "symlink_to", "hardlink_to", "touch", "chmod"}


def writes(call: ast.Call) -> bool:
    """True for a call of the standard library that writes or removes a file."""
    done = call.func
    words = [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
    modes = {w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)}
    opens = any(len(mode) < 4 and set(mode) & set("wax+") for mode in modes)
    if isinstance(done, ast.Name):
        return done.id == "open" and opens
    if not isinstance(done, ast.Attribute):
        return False
    owner = done.value.id if isinstance(done.value, ast.Name) else ""
    if owner == "os" and done.attr == "fdopen":
        return opens
    if owner == "os" and done.attr == "open":
        return bool(re.search("O_(WRONLY|RDWR|CREAT|APPEND|TRUNC)", ast.unparse(call)))
    if owner in FORBIDDEN:
        return done.attr in FORBIDDEN[owner].split()
    if owner == "os" or owner == "files":
        return False
    if done.attr in ("rename", "replace"):  # of a path; that of a text has two
        return len(call.args) == 1 and not call.keywords
    return done.attr in METHODS or (
        done.attr == "open" and opens and not any(k.arg == "fileobj" for k in call.keywords)
    )


def test_one_module_writes_and_removes_files() -> None:
    found = [
        f"{name(path)}:{item.lineno}: {ast.unparse(item.func)}"
        for path, tree in TREES.items()
        if name(path) not in WRITERS
        for item in ast.walk(tree)
        if isinstance(item, ast.Call) and writes(item)
    ]
    assert found == []


def test_qemu_img_guesses_no_format() -> None:
    """A guest writes what a raw disk begins with: guessed as qcow2, it would name any file of the host."""
    found = [
        [ast.unparse(word) for word in item.elts]
        for tree in TREES.values()
        for item in ast.walk(tree)
        if isinstance(item, ast.List) and ast.unparse(item).startswith("['qemu-img'")
    ]
    assert len(found) > 5
    assert [words for words in found if "'-f'" not in words] == []
    assert [words for words in found if "'-b'" in words and "'-F'" not in words] == []


def test_every_variable_that_a_user_can_set_is_in_the_documentation() -> None:
    # what labctl sets for its programs
    own = {"LABCTL_OUTSIDE", "LABCTL_ROOT", "LABCTL_NIGHTLY_RUN", "LABCTL_NIGHTLY_STATE", "LABCTL_NIGHTLY_REPORT"}
    own.add("LABCTL_VISIT")
    named = {
        item.value
        for tree in TREES.values()
        for item in ast.walk(tree)
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and re.fullmatch("LABCTL_[A-Z_]+", item.value)
    }
    ruby = re.findall(r'ENV(?:\[|\.fetch\()"(LABCTL_[A-Z_]+)"', (ROOT / "vagrant/Vagrantfile").read_text())
    table = re.findall(r"^\| `(LABCTL_\w+)` \|", (ROOT / "docs/command-line.md").read_text(), re.MULTILINE)
    assert sorted(table) == sorted({*named, *ruby} - own)
