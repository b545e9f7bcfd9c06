"""Cells as jobs of a CI system: how they are packed, and what GitHub and GitLab get."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Labctl
from support import ROOT, SMALL, write

from labctl.errors import LabError
from labctl.host import process
from labctl.nightly import jobs
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell

WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
ACTION = ROOT / ".github" / "actions" / "labctl" / "action.yml"
GITLAB = ROOT / ".gitlab-ci.yml"
COMMON = ROOT / "tools" / "nightly" / "gitlab.yml"


def cells(*names: str) -> list[Cell]:
    return [Cell(name=name, topology=name) for name in names]


def check(path: Path, schema: str, *options: str) -> str:
    """What the schema's checker says against a file; empty if nothing."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *options, path]
    done = process.run(words, check=False, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# --- packing ---------------------------------------------------------------------------------------


def test_jobs_are_of_about_equal_times_and_the_longest_is_first() -> None:
    took = {"a": 1500.0, "b": 900.0, "c": 800.0, "d": 500.0, "e": 400.0, "f": 300.0}
    made = jobs.pack(cells(*took), took, 3)
    found = [(job.number, job.cells, job.seconds) for job in made]
    assert found == [("1", ("b", "e", "f"), 1600), ("2", ("a",), 1500), ("3", ("c", "d"), 1300)]


def test_a_cell_without_a_history_has_the_default_and_cells_keep_the_files_order_in_a_job() -> None:
    (job,) = jobs.pack(cells("new", "known", "other"), {"known": 100.0}, 1)
    assert (job.cells, job.seconds) == (("new", "known", "other"), 100 + 2 * jobs.UNKNOWN)
    assert len(jobs.pack(cells("a", "b"), {}, 9)) == 2


def test_no_distribution_is_a_third_longer_than_the_best_that_can_be() -> None:
    took = {f"cell-{n}": 60.0 + n * 37 % 900 for n in range(1000)}
    made = jobs.pack(cells(*took), took, jobs.GITHUB)
    least = max(max(took.values()), sum(took.values()) / jobs.GITHUB)
    assert made[0].seconds <= 4 / 3 * least
    assert len(made) == jobs.GITHUB
    assert len({job.number for job in made}) == jobs.GITHUB


def test_github_gets_no_more_jobs_than_it_runs() -> None:
    assert jobs.most(None, 300, github=True) == 256
    assert jobs.most(None, 300, github=False) == 300
    assert jobs.most(12, 300, github=True) == 12
    with pytest.raises(LabError, match="GitHub runs at most 256 jobs of a matrix, not 257"):
        jobs.most(257, 300, github=True)


# --- what is printed -------------------------------------------------------------------------------


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A matrix of three cells, one of them with a name that a shell would take apart."""
    for name in ("alpha", "beta", "it's $(touch here)"):
        write(tmp_path, SMALL, f"{name}.yaml")
    topologies = ["alpha.yaml", "beta.yaml", "it's $(touch here).yaml"]
    text = yaml.safe_dump({"matrix": [{"topology": name} for name in topologies]})
    return write(tmp_path, text, "nightly.yaml")


def test_cells_are_packed_by_the_times_of_the_history(matrix: Path, labctl: Labctl) -> None:
    with History() as history:
        run = history.begin_run(cells("alpha", "beta"))
        now = time.time()
        for row, seconds in zip(history.cells(run), (600, 200), strict=True):
            history.update_cell(row["id"], state="done", outcome="passed", began=now, ended=now + seconds)
    status, printed, _ = labctl("nightly", "cells", "--file", matrix, "--jobs", "2", "-o", "json")
    assert status == 0
    rows = {row["cell"]: (row["seconds"], row["job"]) for row in json.loads(printed)}
    assert rows == {"alpha": (600, "2"), "beta": (200, "2"), "it's $(touch here)": (None, "1")}
    assert "JOB" in labctl("nightly", "cells", "--file", matrix, "--jobs", "2")[1].splitlines()[0]


def test_listing_cells_makes_and_changes_no_history_and_a_broken_one_is_no_hindrance(
    matrix: Path, labctl: Labctl, home: Path
) -> None:
    assert labctl("nightly", "cells", "--file", matrix, "-o", "github")[0] == 0
    assert not home.exists()
    old = home / "nightly" / "history.sqlite"
    with History():
        pass
    with sqlite3.connect(old) as db:
        db.execute("PRAGMA user_version = 3")
    assert labctl("nightly", "cells", "--file", matrix)[0] == 0
    with sqlite3.connect(old) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
    write(home / "nightly", "no database" * 99, "history.sqlite")
    status, printed, said = labctl("nightly", "cells", "--file", matrix, "-o", "github")
    assert status == 0
    assert "how long cells take is not known" in said
    assert len(json.loads(printed)["include"]) == 3


def test_github_gets_one_line_for_its_matrix(matrix: Path, labctl: Labctl) -> None:
    printed = labctl("nightly", "cells", "--file", matrix, "-o", "github", "--jobs", "2")[1]
    assert printed.count("\n") == 1
    found = json.loads(printed)
    assert set(found) == {"include"}
    assert [row["job"] for row in found["include"]] == ["1", "2"]
    assert found["include"][0]["name"] == "alpha, it's $(touch here)"
    named = [shlex.split(row["options"]) for row in found["include"]]
    assert named == [["--cell", "alpha", "--cell", "it's $(touch here)"], ["--cell", "beta"]]


def test_gitlab_gets_a_pipeline_that_its_schema_allows(matrix: Path, labctl: Labctl, tmp_path: Path) -> None:
    printed = labctl("nightly", "cells", "--file", matrix, "--only", "*", "-o", "gitlab")[1]
    pipeline = yaml.safe_load(printed)
    assert [name for name in pipeline if name.startswith("night ")] == [
        *("night 1: alpha", "night 2: beta", "night 3: it's $(touch here)"),
    ]
    assert shlex.split(pipeline["night 3: it's $(touch here)"]["script"][0]) == [
        *("labctl", "nightly", "run", "--file", str(matrix), "--cell", "it's $(touch here)"),
        *("--artefact", "nights/3"),
    ]
    listed = shlex.split(pipeline["report"]["script"][1].partition(" >")[0])
    assert listed == ["labctl", "nightly", "cells", "--file", str(matrix), "--only", "*", "-o", "json"]
    whole = write(tmp_path, COMMON.read_text() + printed, "night.yml")
    assert check(whole, "vendor.gitlab-ci", "--data-transform", "gitlab-ci") == ""
    assert set(yaml.safe_load(whole.read_text())) >= {"default", "variables", "stages", "report"}


@pytest.mark.parametrize("form", ["json", "github", "gitlab"])
def test_what_was_expected_is_read_from_every_output(matrix: Path, labctl: Labctl, tmp_path: Path, form: str) -> None:
    printed = labctl("nightly", "cells", "--file", matrix, "-o", form)[1]
    assert jobs.expected(write(tmp_path, printed, "cells")) == ["alpha", "beta", "it's $(touch here)"]
    assert jobs.expected(matrix) == ["alpha", "beta", "it's $(touch here)"]


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", "[]", "{}", "a: b", '{"include": 3}', "[{}]", "a: [", "- a: 'x"])
def test_a_file_without_cells_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabError, match="has no cells") as raised:
        jobs.expected(write(tmp_path, text, "cells"))
    assert str(tmp_path / "cells") in raised.value.message


# --- what is shipped -------------------------------------------------------------------------------


def test_the_shipped_files_are_what_their_systems_take() -> None:
    assert check(WORKFLOW, "vendor.github-workflows") == ""
    assert check(WORKFLOW, "custom.github-workflows-require-timeout") == ""
    assert check(ACTION, "vendor.github-actions") == ""
    assert check(GITLAB, "vendor.gitlab-ci", "--data-transform", "gitlab-ci") == ""


def test_the_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    assert "runs-on" in check(write(tmp_path, WORKFLOW.read_text().replace("runs-on", "runs"), "w"), *FORCED)
    assert check(write(tmp_path, GITLAB.read_text().replace("stages: [", "stages: 3 #["), "g"), *FORCED_GITLAB)


FORCED = ("vendor.github-workflows", "--force-filetype", "yaml")
FORCED_GITLAB = ("vendor.gitlab-ci", "--force-filetype", "yaml", "--data-transform", "gitlab-ci")


def steps(job: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load(WORKFLOW.read_text())["jobs"][job]["steps"])


def ran(script: str, folder: Path, said: str = "") -> list[list[str]]:
    """The calls of labctl in a script, run by the shell that GitHub has in a container."""
    (folder / "bin").mkdir(exist_ok=True)
    program = write(
        folder / "bin", f'#!/bin/sh\nprintf "%s\\0" "$@" >>{folder}/calls\necho >>{folder}/calls\n{said}', "labctl"
    )
    program.chmod(0o755)
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "GITHUB_OUTPUT": str(folder / "output")}
    process.run(["sh", "-e", "-c", script], cwd=folder, env=environment)
    return [line.split("\0")[:-1] for line in (folder / "calls").read_text().splitlines()]


def test_the_workflow_runs_what_labctl_takes(matrix: Path, labctl: Labctl, tmp_path: Path) -> None:
    """Its own commands, with the matrix that labctl writes, are parsed by labctl itself."""
    printed = labctl("nightly", "cells", "--file", matrix, "-o", "github")[1].strip()
    (row,) = [row for row in json.loads(printed)["include"] if "$" in row["options"]]
    night = next(step for step in steps("night") if step.get("name") == "night")["run"]
    (call,) = ran(re.sub(r"\$\{\{ matrix\.options \}\}", lambda _: row["options"], night), tmp_path)
    assert call == ["nightly", "run", "--cell", "it's $(touch here)", "--artefact", "night"]
    assert not (tmp_path / "here").exists()
    assert parsed(call)

    (tmp_path / "calls").unlink()
    listed = next(step for step in steps("cells") if step.get("name") == "cells")["run"]
    calls = ran(listed, tmp_path, said=f"echo {shlex.quote(printed)}")
    assert [call[:2] for call in calls] == [["nightly", "cells"]] * 2
    assert all(parsed(call) for call in calls)
    assert (tmp_path / "output").read_text() == f"matrix={printed}\n"

    (tmp_path / "calls").unlink()
    (call,) = ran(next(step for step in steps("merge") if step.get("name") == "merge")["run"], tmp_path)
    assert call == ["nightly", "merge", "nights", "--expected", "cells.json"]
    assert parsed(call)


def parsed(words: Sequence[str]) -> bool:
    """True when labctl takes a command line."""
    import typer

    from labctl.cli import app

    command: Any = typer.main.get_command(app)
    for verb in words[:2]:
        command = command.commands[verb]
    return bool(command.make_context(words[1], list(words[2:])).params)


def test_the_jobs_of_the_workflow_fit_together() -> None:
    whole = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    assert whole["night"]["strategy"]["matrix"] == "${{ fromJSON(needs.cells.outputs.matrix) }}"
    assert whole["night"]["strategy"]["fail-fast"] is False
    assert whole["merge"]["needs"] == ["cells", "night"]
    up = next(step for step in steps("night") if step.get("uses", "").startswith("actions/upload-artifact"))
    down = [step for step in steps("merge") if step.get("uses", "").startswith("actions/download-artifact")]
    assert up["with"]["name"].startswith(down[1]["with"]["pattern"].removesuffix("*"))
    assert up["if"] == "always()"
    own = next(step for step in steps("night") if step.get("name") == "night")["timeout-minutes"]
    assert own < whole["night"]["timeout-minutes"] <= 360  # what a hosted machine allows


def test_the_pipeline_of_gitlab_keeps_one_history(matrix: Path, labctl: Labctl) -> None:
    whole = yaml.safe_load(GITLAB.read_text())
    child = yaml.safe_load(labctl("nightly", "cells", "--file", matrix, "-o", "gitlab")[1])
    for key in ("key", "paths"):
        assert whole["cells"]["cache"][key] == child["report"]["cache"][key]
    assert whole["cells"]["variables"] == child["report"]["variables"]
    assert whole["cells"]["artifacts"]["paths"] == [whole["night"]["trigger"]["include"][0]["artifact"]]
