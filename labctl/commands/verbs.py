"""The table of verbs; to add one, add a function to a module of this package, and one line here.

A verb's module is imported when the verb has words to read, so no command waits for what the others need. Help and
completion list the verbs without that: a verb's help is its function's docstring, taken from the compiled module.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder, SourceFileLoader
from inspect import cleandoc
from types import CodeType, FunctionType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from labctl import commands

#: Module and function of each verb, in the order of the help. A module that has several words after its verb has
#: them in a Typer called ``group``, and the function is its callback.
PLACES: Mapping[str, str] = {
    "up": "lifecycle:up",
    "down": "lifecycle:down",
    "validate": "validate:validate",
    "schema": "validate:schema",
    "plan": "plan:show_plan",
    "list": "labs:list_labs",
    "status": "labs:status",
    "verify": "labs:verify",
    "releases": "releases:list_releases",
    "info": "info:info",
    "ssh": "access:ssh",
    "exec": "access:execute",
    "shell": "access:shell",
    "env": "access:env",
    "secrets": "access:secrets",
    "test": "access:prove",
    "forward": "forward:forward",
    "console": "forward:console",
    "ssh-config": "inventory:ssh_config",
    "inventory": "inventory:inventory",
    "repair": "maintenance:repair",
    "clone": "maintenance:clone",
    "gc": "maintenance:gc",
    "fault": "fault:fault",
    "logs": "logs:logs",
    "bundle": "logs:bundle",
    "tempest": "tempest:tempest",
    "diagnose": "diagnose:diagnose",
    "break": "exercise:break_lab",
    "doctor": "doctor:doctor",
    "guide": "guide:guide",
    "topologies": "graph:topologies",
    "graph": "graph:graph",
    "upgrade": "upgrade:upgrade",
    "source": "source:source",
    "node": "node:node",
    "snapshot": "snapshot:snapshot",
    "pool": "pool:pool",
    "nightly": "nightly:nightly",
    "image": "image:image",
    "vagrant": "vagrant:vagrant",
}


def _place(name: str) -> tuple[str, str]:
    """The full name of a verb's module, and its function."""
    module, _, function = PLACES[name].partition(":")
    return f"{__package__}.{module}", function


def command(name: str) -> Any:
    """The command of a verb; imports its module.

    :raises KeyError: there is no such verb.
    """
    place, function = _place(name)
    module, app = import_module(place), typer.Typer()
    if below := getattr(module, "group", None):
        app.add_typer(below, name=name)
    else:
        app.command(name)(getattr(module, function))
    return typer.main.get_group(app).commands[name]


@cache
def _functions(module: str) -> Mapping[str, CodeType]:
    """The functions of a module, compiled; none of it runs."""
    # not the finder of whoever imports labctl: pytest's has no compiled modules to give
    spec = PathFinder.find_spec(module, commands.__path__)
    assert spec is not None
    assert isinstance(spec.loader, SourceFileLoader)
    compiled = spec.loader.get_code(module)
    assert compiled is not None
    return {item.co_name: item for item in compiled.co_consts if isinstance(item, CodeType)}


def summary(name: str) -> str:
    """The help of a verb; imports nothing.

    :raises KeyError: there is no such verb, or its module has no such function.
    """
    module, function = _place(name)
    return cleandoc(FunctionType(_functions(module)[function], {}).__doc__ or "")


class Listed(TyperCommand):
    """A verb as help and completion list it; it becomes its command when it gets words to read."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=summary(name))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the verb's command."""
        return command(str(self.name)).make_context(info_name, args, parent, **extra)


class Commands(UserDict[str, Any]):
    """The verbs' commands by name, each imported when it is looked up."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(PLACES))

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = command(name)
        return self.data[name]


class Verbs(TyperGroup):
    """The verbs, which also say what follows the options before them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the help."""
        return list(PLACES)

    def get_command(self, ctx: Any, cmd_name: str) -> Listed | None:
        """A verb as it is listed; ``commands`` has its command."""
        return Listed(cmd_name) if cmd_name in PLACES else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words of the verb: another machine's labctl may have to read them."""
        _, ctx.obj, _ = self.make_parser(ctx).parse_args(list(args))
        return super().parse_args(ctx, args)
