"""What pyproject.toml cannot say: the folders beside the package become its data in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("topologies", "kickstart", "vagrant", "e2e", "systemd", "nightly.yaml")


class BuildWithData(build_py):
    """Copies the data beside the modules; an editable installation finds it where it lies."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in SHIPPED:
            source, target = Path(name), Path(self.build_lib, "labctl", "data", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(
                    source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".vagrant")
                )
            else:
                shutil.copyfile(source, target)


setup(cmdclass={"build_py": BuildWithData})
