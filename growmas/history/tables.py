"""The tables of a topology history, an SQLite file that any tool can read.

`application_id` marks the file as a topology history and `user_version` gives the version of
these tables. While a tracker is open the file is in WAL mode, so a reader never waits and sees
only whole transactions: an edit is one, a snapshot is one. Times are UTC, ISO 8601.
docs/history.md has examples of queries.

=============== ============================================================ =====================
table           columns                                                      one row is
=============== ============================================================ =====================
meta            key, value                                                   a fact about the file
tasks           task, name, started, finished                                a task, from 0
groups          position, name, kind                                         a group of units
units           group_name, unit, birth_task, birth_event, parent, replaced, a unit, living or
                death_task, death_event                                      dead
events          event, task, kind, reason, cause, time                       an event
layers          task, name, position, kind, group_name, in_width, out_width, a layer at the end of
                parameters, flops                                            the task
operations      task, name, position, kind, width                            an operation between
                                                                             layers, at that time
edges           task, source, target                                         data flow, at that
                                                                             time
sizes           task, units, parameters, flops                               the network's size, at
                                                                             that time
metrics         task, name, value                                            a number, at a snapshot
scalars         step, name, value, task, epoch                               a number of training,
                                                                             after a step
importance      task, group_name, event, units, total, mean, least, most,    a group, at a snapshot
                zeros
importance_data task, group_name, data                                       its units' values
consumers       task, group_name, layer, event, share                        a layer that reads a
                                                                             group, at a snapshot
consumers_data  task, group_name, layer, data                                its share of each unit
frozen          group_name, unit, since_task, until_task                     a frozen stretch
=============== ============================================================ =====================

- `tasks.started` is the time at which the tracker first knew of the task; `finished` is the time
  of its latest snapshot, NULL before the first.
- Unit ids are unique within a group and never used again. `birth_event` is NULL for the units
  that the network had when tracking began; `death_task` is NULL for the living. `parent` is the
  unit of the same group that it was split from, `replaced` the unit whose place it took.
- The width of a group after task t is the number of its units with `birth_task <= t` and
  (`death_task` NULL or `death_task > t`).
- `events.kind` is "edit" (growmas changed the structure), "external" (other code changed it, found
  at a snapshot), "begin", "resume" (an earlier task is learnt again), "snapshot", or the kind of a
  note, such as "plateau" or "shift". `reason` is for people; `cause` is a JSON object for programs:
  policy, statistic, value, threshold. Numbers of events rise in time.
- `layers`, `operations`, `edges` and `sizes` are written at every edit and snapshot, so the rows
  of a running task are up to date. `group_name` is the group that a layer's outputs belong to,
  or NULL. FLOPs are of one sample, two for a multiplication and addition; they are counted at
  snapshots and NULL after an edit until the next. A file whose `meta` has no "flops_of" was
  written by an earlier version: its FLOPs are of all example inputs, with the heads of all tasks.
  An edge leads from a layer or operation to the next; operations that only reorder entries are
  left out.
- The metric `accuracy/NAME` is the accuracy on task NAME measured after `task`; `accuracy` is
  the mean.
- `scalars.step` is the number of training steps done, `task` the name of the task being learnt.
  "loss" and "penalty" are means since the row before, "accuracy/validation" and
  "accuracy/training" those of the task's own head.
- `importance_data.data` holds little-endian float32 values, one for every unit alive at
  `importance.event`, by ascending id: those with (`birth_event` NULL or `birth_event <= event`)
  and (`death_event` NULL or `death_event > event`). The row of `importance` sums them up:
  their number, sum, mean, minimum, maximum, and how many are exactly 0.
- `consumers` has a row for every layer that reads a group and has part of its importance; `share`
  is the layer's share of the group's importance. Its `data` holds one byte for every unit alive at
  `consumers.event`, by ascending id: the layer's share of that unit's importance times 255,
  rounded. Without a row of `consumers_data`, the layer is the only one that reads the group.
- A unit was frozen at the end of every task t with `since_task <= t` and (`until_task` NULL or
  `until_task > t`), as long as it lived.
"""

VERSION = 2
FLOPS_OF, ONE_SAMPLE = "flops_of", "sample"
"""The key in `meta` that says what FLOPs are of, and its value."""

APPLICATION_ID = 0x67726D73  # "grms"

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"

TASKS = """
CREATE TABLE tasks (
    task INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    started TEXT NOT NULL,
    finished TEXT
);
"""

GROUPS = """
CREATE TABLE groups (position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL);
"""

EVENTS = """
CREATE TABLE events (
    event INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks,
    kind TEXT NOT NULL DEFAULT 'edit',
    reason TEXT NOT NULL,
    cause TEXT NOT NULL DEFAULT '{}',
    time TEXT NOT NULL
);
CREATE INDEX events_by_task ON events (task);
"""

UNITS = """
CREATE TABLE units (
    group_name TEXT NOT NULL REFERENCES groups (name),
    unit INTEGER NOT NULL,
    birth_task INTEGER NOT NULL REFERENCES tasks,
    birth_event INTEGER REFERENCES events,
    parent INTEGER,
    replaced INTEGER,
    death_task INTEGER REFERENCES tasks,
    death_event INTEGER REFERENCES events,
    PRIMARY KEY (group_name, unit),
    FOREIGN KEY (group_name, parent) REFERENCES units DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (group_name, replaced) REFERENCES units DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
CREATE INDEX units_by_birth ON units (group_name, birth_task, birth_event);
CREATE INDEX units_by_death ON units (group_name, death_task) WHERE death_task IS NOT NULL;
CREATE INDEX units_by_parent ON units (group_name, parent) WHERE parent IS NOT NULL;
CREATE INDEX units_by_replaced ON units (group_name, replaced) WHERE replaced IS NOT NULL;
"""

TOPOLOGY = """
CREATE TABLE layers (
    task INTEGER NOT NULL REFERENCES tasks,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    group_name TEXT,
    in_width INTEGER,
    out_width INTEGER,
    parameters INTEGER NOT NULL,
    flops INTEGER,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
CREATE TABLE operations (
    task INTEGER NOT NULL REFERENCES tasks,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    width INTEGER,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
CREATE TABLE edges (
    task INTEGER NOT NULL REFERENCES tasks,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (task, source, target)
) WITHOUT ROWID;
CREATE TABLE sizes (
    task INTEGER PRIMARY KEY REFERENCES tasks,
    units INTEGER NOT NULL,
    parameters INTEGER NOT NULL,
    flops INTEGER
);
"""

METRICS = """
CREATE TABLE metrics (
    task INTEGER NOT NULL REFERENCES tasks,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
"""

SCALARS = """
CREATE TABLE IF NOT EXISTS scalars (
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    task TEXT NOT NULL,
    epoch INTEGER,
    PRIMARY KEY (step, name)
) WITHOUT ROWID;
"""
"""Histories of earlier versions have no such table; it is made when the first scalar is written."""

IMPORTANCE = """
CREATE TABLE importance (
    task INTEGER NOT NULL REFERENCES tasks,
    group_name TEXT NOT NULL REFERENCES groups (name),
    event INTEGER NOT NULL,
    units INTEGER NOT NULL,
    total REAL NOT NULL,
    mean REAL NOT NULL,
    least REAL NOT NULL,
    most REAL NOT NULL,
    zeros INTEGER NOT NULL,
    PRIMARY KEY (task, group_name)
) WITHOUT ROWID;
CREATE TABLE importance_data (
    task INTEGER NOT NULL,
    group_name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (task, group_name),
    FOREIGN KEY (task, group_name) REFERENCES importance ON DELETE CASCADE
);
CREATE TABLE consumers (
    task INTEGER NOT NULL REFERENCES tasks,
    group_name TEXT NOT NULL REFERENCES groups (name),
    layer TEXT NOT NULL,
    event INTEGER NOT NULL,
    share REAL NOT NULL,
    PRIMARY KEY (task, group_name, layer)
) WITHOUT ROWID;
CREATE TABLE consumers_data (
    task INTEGER NOT NULL,
    group_name TEXT NOT NULL,
    layer TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (task, group_name, layer),
    FOREIGN KEY (task, group_name, layer) REFERENCES consumers ON DELETE CASCADE
);
CREATE TABLE frozen (
    group_name TEXT NOT NULL,
    unit INTEGER NOT NULL,
    since_task INTEGER NOT NULL REFERENCES tasks,
    until_task INTEGER REFERENCES tasks,
    PRIMARY KEY (group_name, unit, since_task),
    FOREIGN KEY (group_name, unit) REFERENCES units ON DELETE CASCADE
) WITHOUT ROWID;
"""

ALL = META + TASKS + GROUPS + EVENTS + UNITS + TOPOLOGY + METRICS + SCALARS + IMPORTANCE
