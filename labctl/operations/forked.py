"""Run commands of one Python program one after another, in processes that share what it imports.

usage: INTERPRETER - PROGRAM [USER STATUS STAMP WORDS]...

Each command is the program itself, with its own arguments, in a process of its own; only the import of its modules,
which takes seconds where the command takes tenths, is done once. A command may end with 0 or with STATUS; after it
the file STAMP is written, if one is named. The first that fails ends the rest, with its status.

Read by the interpreters of all releases, Python 2.7 among them.
"""

# mypy: ignore-errors

import os
import pwd
import runpy
import shlex
import sys


def become(user):
    """What su does without a login."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def main(program, commands):
    # as the interpreter has it of a script: this one came by standard input, so it has the current directory instead,
    # which the command's account may not be able to read
    sys.path[0] = os.path.dirname(os.path.realpath(program))
    runpy.run_path(program, run_name="imported")
    while commands:
        user, allowed, stamp, words = commands[:4]
        del commands[:4]
        print("+ %s %s" % (os.path.basename(program), words))
        sys.stdout.flush()
        child = os.fork()
        if not child:
            become(user)
            sys.argv = [program] + shlex.split(words)
            runpy.run_path(program, run_name="__main__")
            sys.exit(0)
        ended = os.waitpid(child, 0)[1]
        status = os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 128 + os.WTERMSIG(ended)
        if status not in (0, int(allowed)):
            return status
        if stamp:
            open(stamp, "w").close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
