"""The golden tree of a Debian base, in layers: the system; Debian's own services; OpenStack; what is made of it.

Each layer is content-addressed and published when it is whole. A failed or killed build costs the layer it was in;
releases share the layers in which they are equal. What a layer is made from names the very layer below it, since
dpkg's list of what is installed fits only the files it was written for.

No OpenStack daemon starts in it: every unit is disabled until a lab has configured it, since a tree in
which everything is enabled keeps two cores busy with services that fail and restart (docs/platform.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.host import process, threads
from labctl.images import apt, dashboard, debian_files, retry, stack, store
from labctl.images.chroot import WITH_LABCTL, Bind, Chroot
from labctl.progress import step
from labctl.releases.model import PackageSource

#: Raise when the steps below change what is in a tree.
RECIPE_VERSION = 2
#: Bytes that a build must find free.
ROOM = 6 * 2**30
#: Left out of the tree. libvirt starts every emulator it finds to learn what it can do, which costs
#: 20 s of nova-compute's first start for 30 foreign processors.
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/bin/qemu-system-*",
)
INCLUDED = ("/usr/bin/qemu-system-x86_64",)


#: Test suites, a third of all modules: of these projects alone they are imported where no tests run.
SUITES = r"/dist-packages/(?!horizon/|openstack_dashboard/|networkx/|taskflow/).*/tests?/"


def packages(base: Base) -> tuple[str, ...]:
    """Every package of every component: one tree serves all nodes of all labs of the base."""
    names = [*base.common_packages]
    for group in (*base.packages.values(), *base.l2_packages.values()):
        names += group
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Layer:
    """A layer of Debian's packages: what it is called, what is in it, and the layers below it, uppermost first.

    :param inputs: what it is made from besides its packages and the layers below.
    """

    kind: str
    title: str
    packages: tuple[str, ...]
    inputs: dict[str, Any]
    build: Callable[[Layer, tuple[Path, ...], apt.Archive, Path], dict[str, Any]]

    def recipe(self, below: tuple[Path, ...]) -> store.Recipe:
        """What it is made from; layers below count by their content, not by their recipe."""
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
    """The layers of a base that every release on it has, the lowest first."""
    return (
        Layer(
            f"{base.name}-system",
            f"{base.title}: system",
            base.system_packages,
            {
                "suite": base.suite,
                "masked": sorted(base.unwanted_units),
                "paths": [EXCLUDED, INCLUDED],
                "files": sorted((name, text, oct(mode)) for name, text, mode in debian_files.contents()),
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
    """All layers of a base whose OpenStack comes from Debian, the lowest first."""
    below = system_layers(base)
    lower = {name for layer in below for name in layer.packages}
    projects = tuple(name for name in packages(base) if name not in lower)
    return (
        *below,
        Layer(
            f"{base.name}-openstack",
            f"{base.title}: OpenStack",
            projects,
            {"disabled": sorted(base.openstack_units), "without": dashboard.MANAGE},
            lambda layer, below, archive, work: _add(layer, below, archive, work, base.openstack_units),
        ),
        Layer(
            f"{base.name}-{base.source}",
            f"{base.title}: compiled",
            (),
            {"compress": dashboard.COMPRESS, "not compiled": SUITES},
            lambda layer, below, archive, work: _compile(below, work),
        ),
    )


def ensure(base: Base) -> tuple[Path, ...]:
    """Return the layers with a base's packages, the uppermost first, building those that are not there.

    :raises LabError: one cannot be built; those below it stay.
    """
    return _ensure(layers(base) if base.source is PackageSource.DEBIAN else system_layers(base))


def _ensure(wanted: Sequence[Layer]) -> tuple[Path, ...]:
    archive = apt.Archive.here()
    ahead: list[tuple[Future[None], Path]] = []
    done: tuple[Path, ...] = ()
    for number, layer in enumerate(wanted):
        rest = tuple(name for later in wanted[number + 1 :] for name in later.packages)

        def build(
            work: Path, layer: Layer = layer, below: tuple[Path, ...] = done, rest: tuple[str, ...] = rest
        ) -> Any:
            free = shutil.disk_usage(work).free
            if free < ROOM:
                raise LabError(
                    f"{work.parent} has {free / 2**30:.1f} GiB free; building an image needs {ROOM / 2**30:g} GiB",
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
                    # the mirror works while this machine unpacks and configures
                    said, later = log.with_suffix(".ahead.log"), (*first, *layer.packages, *rest)
                    ahead.append((threads.started(lambda: archive.fetch(later, said)), said))
            try:
                facts = layer.build(layer, below, archive, work)
            finally:
                _wait(ahead)
            return {"below": [under.name for under in below], **facts}

        done = (store.ensure(layer.recipe(done), build), *done)
    return done


def _wait(ahead: list[tuple[Future[None], Path]]) -> None:
    """Let downloads that run ahead come to their end; what they did not bring is asked for again when it is needed.

    Their log is of no use then: what fails for good fails again, and is told.
    """
    while ahead:
        work, log = ahead.pop()
        threads.ended(work, apt.DOWNLOAD)
        log.unlink(missing_ok=True)


def _bootstrap(base: Base, layer: Layer, archive: apt.Archive, work: Path) -> dict[str, Any]:
    tree, log = work / "tree", store.log_of(work)
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    options += [f"--dpkgopt=path-include={pattern}" for pattern in INCLUDED]
    # apt takes packages and lists that are there already, so nothing is downloaded here
    staged = work / "apt"
    bring = (
        'mkdir -p "$1/var/cache/apt" "$1/var/lib/apt" && '
        f'cp -al "{staged}/archives" "$1/var/cache/apt/" && cp -al "{staged}/lists" "$1/var/lib/apt/"'
    )

    def bootstrap() -> None:
        if tree.exists():
            shutil.rmtree(tree)
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

    with step("image", f"{layer.title}: install {len(layer.packages)} packages and what they need"):
        retry.again(bootstrap)
        process.run(["systemctl", f"--root={tree}", "mask", *base.unwanted_units], timeout=60, log=log)
        for link in (tree / "etc").glob("rc[0-6S].d/[SK]*"):
            link.unlink()
        for name in IDENTITIES:
            for path in tree.glob(name):
                path.unlink()
        (tree / "etc/machine-id").write_text("")
        debian_files.write(tree)
        shutil.rmtree(staged)
    return {"packages": _versions(process.output(["chroot", str(tree), *_LISTING]))}


#: Asks dpkg for every package and its version.
_LISTING = ("dpkg-query", "-W", "-f", "${Package} ${Version}\\n")


def _versions(listing: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in listing.splitlines())


#: What must differ between machines: keys, ids, cookies.
IDENTITIES = (
    "etc/ssh/ssh_host_*",
    "var/lib/rabbitmq/.erlang.cookie",
    "var/lib/dbus/machine-id",
    "etc/hostname",
    "etc/resolv.conf",
)
#: What an installation leaves that is of no use in a node.
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
#: Commands that packages' scripts call, in the place of which others stand while they are installed. Modules are
#: compiled when all are there, at once and on all cores; what is in no public directory is written down for that.
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
) -> dict[str, Any]:
    """Install a layer's packages over those below it.

    :param units: are disabled.
    :param compiled: compile Python's modules, too; else that is left to a layer above.
    """
    stubs = work / "stubs"
    stubs.mkdir()
    for name, script in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{script}\n")
        (stubs / name).chmod(0o755)
    inside = Chroot(below, work / "build", (Bind(stubs, apt.STUBS, writable=True),), log=store.log_of(work))
    policy = inside.upper / "usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 101\n")  # nothing is started (invoke-rc.d(8))
    policy.chmod(0o755)
    with step("image", f"{layer.title}: install {len(layer.packages)} packages and what they need"):
        archive.install(inside, layer.packages, f"-oDpkg::Options::=--path-exclude={dashboard.MANAGE}")
        present = [f"{unit}.service" for unit in units if _has_unit(inside, unit)]
        if present:
            inside.run("systemctl", "--root=/", "disable", *present, timeout=120)
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


def _has_unit(inside: Chroot, unit: str) -> bool:
    places = [f"{place}/{unit}.service" for place in ("lib/systemd/system", "usr/lib/systemd/system")]
    return any((inside.upper / name).exists() or stack.find(inside.layers, name) for name in places)


def _compile_modules(inside: Chroot, private: Sequence[str]) -> None:
    # files for other versions of Python, and templates, do not compile, and nobody imports them
    places = ("/usr/lib/python3/dist-packages", *sorted(set(private)))
    words = ("python3", "-m", "compileall", "-q", "-j", "0", "-x", SUITES, *places)
    inside.run(*words, timeout=900, check=False, name="compileall")


def _compile(below: tuple[Path, ...], work: Path) -> dict[str, Any]:
    """What is compiled or collected from the packages below."""
    inside = Chroot(below, work / "build", log=store.log_of(work))
    with step("image", "compile Python modules"):
        _compile_modules(inside, store.manifest_of(below[0])["private"])
    with step("image", "collect and compress the dashboard's static files"):
        dashboard.collect_packaged(inside)
    finish(inside, work)
    return {"packages": store.manifest_of(below[0])["packages"]}


def finish(inside: Chroot, work: Path) -> None:
    """Make of what was written a layer's tree."""
    for pattern in (*WASTE, *IDENTITIES):
        for path in inside.upper.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    inside.upper.rename(work / "tree")
    shutil.rmtree(inside.directory)
