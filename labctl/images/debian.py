"""The golden tree of a Debian base, in layers: the system; Debian's own services; OpenStack; derived files.

Each layer is content-addressed and published when complete. A failed or killed build loses only its current layer;
releases share equal layers. A layer's recipe names the exact layer below it, since dpkg's database matches only the
files it was written for.

Every OpenStack unit is disabled until a lab has configured it: with all units enabled, services that fail and
restart keep two cores busy (docs/platform.md).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bases.model import Base
from labctl.errors import NoSpaceError
from labctl.host import files, process, threads
from labctl.images import apt, dashboard, debian_files, retry, stack, store
from labctl.images.chroot import WITH_LABCTL, Bind, Chroot
from labctl.progress import step
from labctl.releases.model import PackageSource

#: Increment when the steps below change the content of a tree.
RECIPE_VERSION = 2
#: Bytes that must be free for a build.
ROOM = 6 * 2**30
#: Excluded from the tree. libvirt starts every emulator it finds to probe its capabilities; for 30 foreign
#: processors that adds 20 s to nova-compute's first start.
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/bin/qemu-system-*",
)
INCLUDED = ("/usr/bin/qemu-system-x86_64",)


#: Test suites, a third of all modules; only those of the excepted projects are imported outside of tests.
SUITES = r"/dist-packages/(?!horizon/|openstack_dashboard/|networkx/|taskflow/).*/tests?/"


def packages(base: Base) -> tuple[str, ...]:
    """All packages of all components: one tree serves all nodes of all labs of the base."""
    names = [*base.common_packages]
    for group in (*base.packages.values(), *base.l2_packages.values()):
        names += group
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Layer:
    """A layer of Debian packages: its name, its content, and the function that builds it.

    :param inputs: recipe inputs besides its packages and the layers below.
    """

    kind: str
    title: str
    packages: tuple[str, ...]
    inputs: dict[str, Any]
    build: Callable[[Layer, tuple[Path, ...], apt.Archive, Path], dict[str, Any]]

    def recipe(self, below: tuple[Path, ...]) -> store.Recipe:
        """Its recipe; layers below are identified by content, not by recipe."""
        return store.Recipe(
            self.kind,
            {
                "version": RECIPE_VERSION,
                "packages": sorted(self.packages),
                "below": [store.identity(layer) for layer in below],
                **self.inputs,
            },
        )


def system_layers(base: Base) -> tuple[Layer, ...]:
    """The layers of a base that all its releases share, lowest first."""
    contents = sorted((name, text, oct(mode)) for name, text, mode in debian_files.contents(base.environment))
    return (
        Layer(
            f"{base.name}-system",
            f"{base.title}: system",
            base.system_packages,
            {
                "suite": base.suite,
                "masked": sorted(base.unwanted_units),
                "paths": [EXCLUDED, INCLUDED],
                "files": contents,
            },
            lambda layer, below, archive, work: _bootstrap(base, layer, archive, work),
        ),
        Layer(
            f"{base.name}-services",
            f"{base.title}: database, messaging, hypervisor and the like",
            base.service_packages,
            {"disabled": sorted(base.service_units), "not compiled": SUITES},
            lambda layer, below, archive, work: _add(layer, below, archive, work, base.service_units, compiled=True),
        ),
    )


def layers(base: Base) -> tuple[Layer, ...]:
    """All layers of a base whose OpenStack comes from Debian, lowest first."""
    below = system_layers(base)
    lower = {name for layer in below for name in layer.packages}
    daemons = [name for names in base.daemon_packages.values() for name in names]
    projects = tuple(name for name in dict.fromkeys((*packages(base), *daemons)) if name not in lower)
    return (
        *below,
        Layer(
            f"{base.name}-openstack",
            f"{base.title}: OpenStack",
            projects,
            {
                "disabled": sorted(base.openstack_units),
                "without": dashboard.MANAGE,
                **({"units": "start nothing else"} if base.units_start_services else {}),
            },
            lambda layer, below, archive, work: _add(
                layer, below, archive, work, base.openstack_units, alone=base.units_start_services
            ),
        ),
        Layer(
            f"{base.name}-{base.source}",
            f"{base.title}: compiled",
            (),
            {"compress": dashboard.COMPRESS, "not compiled": SUITES},
            lambda layer, below, archive, work: _compile(below, work),
        ),
    )


@store.keeping()
def ensure(base: Base) -> tuple[Path, ...]:
    """Return the layers with a base's packages, uppermost first, building missing ones.

    :raises LabError: a layer failed to build; the layers below it are kept.
    """
    wanted = layers(base) if base.source is PackageSource.DEBIAN else system_layers(base)
    return _ensure(wanted, apt.Archive.here(base.suite))


def _ensure(wanted: Sequence[Layer], archive: apt.Archive) -> tuple[Path, ...]:
    ahead: list[tuple[Future[None], Path]] = []
    done: tuple[Path, ...] = ()
    for number, layer in enumerate(wanted):
        rest = tuple(name for later in wanted[number + 1 :] for name in later.packages)

        def build(
            work: Path, layer: Layer = layer, below: tuple[Path, ...] = done, rest: tuple[str, ...] = rest
        ) -> Any:
            free = shutil.disk_usage(work).free
            if free < ROOM:
                raise NoSpaceError(
                    f"building an image needs {ROOM / 2**30:g} GiB free; {work.parent} has {free / 2**30:.1f} GiB",
                    "labctl gc --images, or LABCTL_HOME on a larger file system",
                )
            log = store.log_of(work)
            if layer.packages:
                with step("image", f"{layer.title}: download packages"):
                    _wait(ahead)
                    first = ("?essential", "apt") if not below else ()
                    archive.fetch((*first, *layer.packages), log, status=stack.dpkg_status(below))
                if not below:
                    archive.stage(work / "apt")
                if rest and not below:
                    # download the rest while this machine unpacks and configures
                    said, later = log.with_suffix(".ahead.log"), (*first, *layer.packages, *rest)
                    ahead.append((threads.started(lambda: archive.fetch(later, said)), said))
            try:
                facts = layer.build(layer, below, archive, work)
            finally:
                _wait(ahead)
            return {"below": [under.name for under in below], **facts}

        done = (store.ensure(layer.recipe(done), build, over=done), *done)
    return done


def _wait(ahead: list[tuple[Future[None], Path]]) -> None:
    """Wait for background downloads to end; what they did not download is requested again when needed.

    Their log is removed: a permanent failure fails again and is reported then.
    """
    while ahead:
        work, log = ahead.pop()
        threads.ended(work, apt.DOWNLOAD)
        files.erase(log)


def _bootstrap(base: Base, layer: Layer, archive: apt.Archive, work: Path) -> dict[str, Any]:
    tree, log = work / "tree", store.log_of(work)
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    options += [f"--dpkgopt=path-include={pattern}" for pattern in INCLUDED]
    # apt uses the staged packages and lists, so nothing is downloaded here
    staged = work / "apt"
    bring = (
        'mkdir -p "$1/var/cache/apt" "$1/var/lib/apt" && '
        f'cp -al "{staged}/archives" "$1/var/cache/apt/" && cp -al "{staged}/lists" "$1/var/lib/apt/"'
    )

    def bootstrap() -> None:
        if tree.exists():
            files.erase(tree)
        process.run(
            [
                *WITH_LABCTL,
                "--mount-proc",
                "mmdebstrap",
                "--variant=apt",
                "--skip=check/qemu,update",
                f"--setup-hook={bring}",
                '--aptopt=Apt::Install-Recommends "false"',
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=Acquire::Check-Valid-Until "false"',
                "--dpkgopt=force-unsafe-io",
                *options,
                f"--include={','.join(layer.packages)}",
                base.suite,
                tree,
                archive.sources,
            ],
            timeout=apt.INSTALL,
            log=log,
            name="mmdebstrap",
        )

    with step("image", f"{layer.title}: install {len(layer.packages)} packages and dependencies"):
        retry.again(bootstrap)
        process.run(["systemctl", f"--root={tree}", "mask", *base.unwanted_units], timeout=60, log=log)
        for link in (tree / "etc").glob("rc[0-6S].d/[SK]*"):
            files.erase(link, within=tree)
        for name in IDENTITIES:
            for path in tree.glob(name):
                files.erase(path, within=tree)
        files.write_atomic(tree / "etc/machine-id", "", within=tree)
        debian_files.write(tree, base.environment)
        files.erase(staged)
    return {"packages": _versions(process.output(["chroot", str(tree), *_LISTING]))}


#: Lists all packages and their versions.
_LISTING = ("dpkg-query", "-W", "-f", "${Package} ${Version}\\n")


def _versions(listing: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in listing.splitlines())


#: Files that must differ between machines: keys, ids, cookies.
IDENTITIES = (
    "etc/ssh/ssh_host_*",
    "var/lib/rabbitmq/.erlang.cookie",
    "var/lib/dbus/machine-id",
    "etc/hostname",
    "etc/resolv.conf",
)
#: Leftovers of an installation that a node does not need.
WASTE = (
    "run",
    "tmp",
    "var/tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "usr/sbin/policy-rc.d",
)
#: Replacements for commands that package scripts call during installation. Modules are compiled once all are
#: installed, together and on all cores; directories outside the public ones are recorded for that.
STUBS = {
    "py3compile": 'for word; do case $word in /*) echo "$word" >>"${0%/*}/private" ;; esac; done',
    "start-stop-daemon": "exit 0",
}


def _add(
    layer: Layer,
    below: tuple[Path, ...],
    archive: apt.Archive,
    work: Path,
    units: tuple[str, ...],
    *,
    compiled: bool = False,
    alone: bool = False,
) -> dict[str, Any]:
    """Install a layer's packages on top of the layers below.

    :param units: units to disable.
    :param alone: let them start no other unit.
    :param compiled: compile Python modules too; else that is left to a layer above.
    """
    stubs = work / "stubs"
    files.new_directory(stubs)
    for name, script in STUBS.items():
        files.write_atomic(stubs / name, f"#!/bin/sh\n{script}\n", 0o755, within=stubs)
    inside = Chroot(below, work / "build", (Bind(stubs, apt.STUBS, writable=True),), log=store.log_of(work))
    policy = inside.upper / "usr/sbin/policy-rc.d"
    files.make_directories(policy.parent)
    # start no services (invoke-rc.d(8))
    files.write_atomic(policy, "#!/bin/sh\nexit 101\n", 0o755, within=inside.upper)
    with step("image", f"{layer.title}: install {len(layer.packages)} packages and dependencies"):
        archive.install(inside, layer.packages, f"-oDpkg::Options::=--path-exclude={dashboard.MANAGE}")
        present = [f"{unit}.service" for unit in units if _has_unit(inside, unit)]
        if present:
            inside.run("systemctl", "--root=/", "disable", *present, timeout=120)
        if alone:
            _part(inside.upper)
        inside.run("sh", "-c", "rm -f /etc/rc[0-6S].d/[SK]*", timeout=10)
        private = (stubs / "private").read_text().split() if (stubs / "private").exists() else []
        if "openstack-dashboard" in (inside.upper / "var/lib/dpkg/status").read_text():
            dashboard.unpack_manage(archive.archives, inside)
        silent = Chroot(inside.layers, inside.directory, inside.binds)
        versions = _versions(silent.run(*_LISTING, timeout=60))
    if compiled:
        with step("image", f"{layer.title}: compile Python modules"):
            _compile_modules(inside, private)
            private = []
    finish(inside, work)
    return {"packages": versions, "private": sorted(set(private))}


def _part(tree: Path) -> None:
    """Let units want targets only: they want daemons that another node of a lab may run."""
    for path in (tree / "usr/lib/systemd/system").glob("*.service"):
        if path.is_symlink():
            continue
        text = path.read_text()
        wanted = re.sub(
            r"^Wants=.*$", lambda line: re.sub(r"(?<=[=\s])\S+\.service\s*", "", line[0]), text, flags=re.MULTILINE
        )
        if wanted != text:
            files.write_atomic(path, wanted, path.stat().st_mode & 0o7777, within=tree)


def _has_unit(inside: Chroot, unit: str) -> bool:
    places = [f"{place}/{unit}.service" for place in ("lib/systemd/system", "usr/lib/systemd/system")]
    return any((inside.upper / name).exists() or stack.find(inside.layers, name) for name in places)


def _compile_modules(inside: Chroot, private: Sequence[str]) -> None:
    # files for other Python versions and templates do not compile, and are never imported
    places = ("/usr/lib/python3/dist-packages", *sorted(set(private)))
    words = ("python3", "-m", "compileall", "-q", "-j", "0", "-x", SUITES, *places)
    inside.run(*words, timeout=900, check=False, name="compileall")


def _compile(below: tuple[Path, ...], work: Path) -> dict[str, Any]:
    """Compile and collect derived files from the packages below."""
    inside = Chroot(below, work / "build", log=store.log_of(work))
    with step("image", "compile Python modules"):
        _compile_modules(inside, store.manifest_of(below[0])["private"])
    with step("image", "collect and compress the dashboard's static files"):
        dashboard.collect_packaged(inside)
    finish(inside, work)
    return {"packages": store.manifest_of(below[0])["packages"]}


def finish(inside: Chroot, work: Path) -> None:
    """Turn the written files into a layer's tree."""
    for pattern in (*WASTE, *IDENTITIES):
        for path in inside.upper.glob(pattern):
            files.erase(path, within=inside.upper)
    files.move(inside.upper, work / "tree")
    files.erase(inside.directory)
