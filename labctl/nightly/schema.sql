-- The history of nightly runs, version 4 (PRAGMA user_version). Times are seconds since the epoch.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                 -- nightly, tempest
    began REAL NOT NULL,
    ended REAL,                         -- NULL while it runs, and for one that was killed
    file TEXT NOT NULL DEFAULT '',      -- the nightly.yaml
    settings TEXT NOT NULL DEFAULT '{}',
    host TEXT NOT NULL DEFAULT '{}',    -- cores, memory in bytes, kernel, Python
    version TEXT NOT NULL DEFAULT '',   -- of labctl
    git_commit TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT '',    -- hash of labctl's code, suites and topologies, also where nothing is committed
    pruned INTEGER NOT NULL DEFAULT 0   -- its artefacts were removed
);
CREATE TABLE cells (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,           -- what was asked for, as JSON
    lab TEXT NOT NULL,
    state TEXT NOT NULL,                -- waiting, running, done
    step TEXT NOT NULL DEFAULT '',      -- up, join, upgrade-RELEASE, test, look, keep, down: the one that runs, or ran last
    outcome TEXT,                       -- passed, flaky, failed, timeout, error, impossible, lost
    began REAL,
    ended REAL,
    bad_stage TEXT NOT NULL DEFAULT '', -- the first that was not well, of the last attempt
    message TEXT NOT NULL DEFAULT '',
    kept INTEGER NOT NULL DEFAULT 0,    -- its lab was left for a person to look at
    UNIQUE (run, name)
);
CREATE INDEX cells_by_name ON cells (name, run);
CREATE TABLE jobs (                     -- of a CI system: each ran some cells of a run
    id TEXT PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    began REAL NOT NULL,
    cells TEXT NOT NULL,                -- names, as JSON
    files TEXT NOT NULL DEFAULT '{}'    -- in a job's own history: the bytes of each file that it left, as JSON
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    cell INTEGER NOT NULL REFERENCES cells (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    outcome TEXT,                       -- passed, failed, timeout, error
    bad_stage TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    inputs TEXT NOT NULL DEFAULT '',    -- hash of code, topology, images and selection: equal inputs, equal hash
    images TEXT NOT NULL DEFAULT '[]',
    git_commit TEXT NOT NULL DEFAULT '',
    sources TEXT NOT NULL DEFAULT '{}', -- project -> commit and layer of its own repository, as JSON
    process TEXT NOT NULL DEFAULT '',   -- of the step that runs: pid, its start and the boot, as JSON
    diagnosis TEXT NOT NULL DEFAULT '', -- the first finding of `labctl diagnose`, or why there is none
    UNIQUE (cell, number)
);
CREATE TABLE stages (
    attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    name TEXT NOT NULL,                 -- a step, or up/STAGE
    position INTEGER NOT NULL,
    outcome TEXT NOT NULL,              -- passed, failed, timeout
    seconds REAL NOT NULL,
    cpu_seconds REAL NOT NULL,
    PRIMARY KEY (attempt, name)
) WITHOUT ROWID;
CREATE TABLE test_names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE tests (
    attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    test INTEGER NOT NULL REFERENCES test_names (id),
    outcome TEXT NOT NULL,              -- passed, failed, skipped
    seconds REAL NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (attempt, test)
) WITHOUT ROWID;
CREATE TABLE findings (
    attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    place TEXT NOT NULL,                -- a node, or api
    what TEXT NOT NULL,
    last TEXT NOT NULL                  -- the last that was heard of it
);
CREATE INDEX findings_by_attempt ON findings (attempt);
CREATE TABLE artefacts (
    attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,                 -- log, junit, bundle, captures
    path TEXT NOT NULL                  -- relative to the directory of the history
);
CREATE INDEX artefacts_by_attempt ON artefacts (attempt);
CREATE TABLE images (name TEXT PRIMARY KEY, packages TEXT NOT NULL); -- image -> its packages' versions, as JSON
CREATE TABLE bisections (
    id INTEGER PRIMARY KEY,
    cell TEXT NOT NULL,
    stage TEXT NOT NULL,
    good TEXT NOT NULL,
    bad TEXT NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    culprit TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    steps TEXT NOT NULL DEFAULT '[]'    -- commit, verdict, seconds, checkpoint of each, as JSON
);
