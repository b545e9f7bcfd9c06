"""Print, as JSON, what a project's tree requires and an environment has not: unmet.py SITE.

Run by the environment's own interpreter, Python 3.6 or later; pip brings the reading of requirements with it.
"""

import json
import sys

from pip._vendor import pkg_resources

(project,) = pkg_resources.find_distributions(sys.argv[1], only=True)  # type: ignore[no-untyped-call]
present = pkg_resources.WorkingSet()  # type: ignore[no-untyped-call]
found = []
for requirement in project.requires():
    has = present.by_key.get(requirement.key)
    if has is None or not requirement.specifier.contains(has.version, prereleases=True):
        found.append([str(requirement), has.version if has else ""])
print(json.dumps(sorted(found)))
