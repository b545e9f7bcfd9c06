"""Repositories that have left the mirrors: facts 2.1 to 2.5, troubleshooting B2 to B6.

The files are rewritten before the first package and again after the release package, which adds new ones.
"""

from __future__ import annotations

from importlib.resources import files

from labctl.bases.model import Base, RedHat
from labctl.operations.node import Assign, Command, File, Item, Packages, quote
from labctl.releases.model import RDO

AWK = "/usr/local/share/labctl/vault.awk"
DIRECTORY = "/etc/yum.repos.d"
#: EPEL's newer libraries break RDO's dependencies (facts 2.4, troubleshooting B3).
NEVER = ("epel", "epel-modular")


def prefix(vault: str, rdo: RDO) -> str:
    """URL of the vault's tree for a release, without a trailing slash."""
    return f"{vault.rstrip('/')}/{rdo.point_release}"


def urls(system: RedHat, rdo: RDO, vault: str) -> tuple[str, ...]:
    """The URL of every repository that a lab needs."""
    paths = (*system.repositories.values(), *rdo.repositories.values())
    return tuple(f"{prefix(vault, rdo)}/{path}/" for path in paths)


def _rewrite(tool: str, system: RedHat, rdo: RDO, vault: str, when: str) -> Command:
    off, on = (f" {' '.join(ids)} " for ids in ((*rdo.unwanted, *NEVER), system.enabled))
    awk = f"awk -v vault={quote(prefix(vault, rdo))} -v on={quote(on)} -v off={quote(off)} -f {AWK}"
    return Command(
        f"repositories on the vault, {when}",
        f'for f in {DIRECTORY}/*.repo; do\n{awk} "$f" >"$f.labctl-new" && cat "$f.labctl-new" >"$f" && '
        f'rm "$f.labctl-new" || exit 1\ndone\n{tool} clean all',
        unless=f'( for f in {DIRECTORY}/*.repo; do {awk} "$f" | cmp -s - "$f" || exit 1; done )',
        source="facts 2.4: run it twice",
    )


def _answers(addresses: tuple[str, ...], installed: str, proxy: str) -> Command:
    """Report which URL does not answer, and how to set another, before yum complains about mirrors."""
    through = f"http_proxy={quote(proxy)} https_proxy={quote(proxy)} " if proxy else ""
    return Command(
        "the vault answers",
        f"for url in {' '.join(quote(u) for u in addresses)}; do\n"
        f'{through}curl -sf -L -m 30 -o /dev/null "${{url}}repodata/repomd.xml" || {{\n'
        'echo "${url}repodata/repomd.xml cannot be had"\n'
        'echo "name another copy of the vault in the topology: options: {vault: URL}"\n'
        "exit 1\n}\ndone",
        unless=installed,
        changes=False,
        source="facts 2.2 and 2.3; troubleshooting B2",
    )


def _keys(system: RedHat) -> Command:
    """Import the keys from the release packages, after checking those whose fingerprint is known."""
    looks = [
        f"for f in /etc/pki/rpm-gpg/{name}; do\n"
        f'[ ! -e "$f" ] || gpg --with-fingerprint --with-colons "$f" 2>/dev/null | grep -q ":{fingerprint}:" ||\n'
        '{ echo "$f has another fingerprint"; exit 1; }\ndone'
        for name, fingerprint in system.keys.items()
    ]
    stamp = "/var/lib/labctl/stamps/rpm-keys"
    run = "\n".join([*looks, "rpm --import /etc/pki/rpm-gpg/RPM-GPG-KEY-*", f"touch {stamp}"])
    return Command(
        "package keys imported",
        run,
        unless=f'[ -e {stamp} ] && [ -z "$(find /etc/pki/rpm-gpg -newer {stamp} -name "RPM-GPG-KEY-*")" ]',
        source="facts 2.5",
    )


def _module(installer: str, module: str) -> Command:
    name, _, stream = module.partition(":")
    return Command(
        f"module stream {module}",
        f"{installer} -y module enable {module}",
        unless=f"grep -qs '^stream={stream}$' /etc/dnf/modules.d/{name}.module",
        source="facts 2.3",
    )


def operations(
    base: Base, system: RedHat, rdo: RDO, vault: str, names: tuple[str, ...], proxy: str = ""
) -> tuple[Item, ...]:
    """Everything before the packages; what needs the vault is skipped once the packages are installed.

    :param vault: URL of the vault, or of a mirror of it.
    :param proxy: the package manager's; empty: none.
    """
    tool = base.installer
    installed = "rpm -q --whatprovides " + " ".join(quote(n) for n in names)
    awk = files("labctl.services.redhat").joinpath("vault.awk").read_text()
    made: list[Item] = [
        File(AWK, awk, source="facts 2.4, the rewrite algorithm"),
        _rewrite(tool, system, rdo, vault, "before the release package"),
        _answers(urls(system, rdo, vault), installed, proxy),
        Packages((rdo.release_package,), base.family, tool),
        _rewrite(tool, system, rdo, vault, "after it"),
        _keys(system),
    ]
    if system.excluded:
        path, option, packages = system.excluded
        made.append(Assign(path, ((option, " ".join(packages)),), "facts 2.3; troubleshooting B5", separator="="))
    made += [_module(tool, module) for module in system.modules]
    made += [
        Command(
            "every repository can be read",
            f"{tool} -q makecache",
            unless=installed,
            changes=False,
            source="troubleshooting B2",
        ),
        Command(
            "packages of one age",
            f"{tool} -y upgrade  # reboot when this brings another kernel",
            unless=installed,
            source="guide: OpenStack packages, finalize the installation; facts 4.1",
        ),
    ]
    return tuple(made)
