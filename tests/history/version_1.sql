-- A history as growmas 0.1.0 wrote it.
PRAGMA application_id = 0x67726D73;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE edges (
    task INTEGER NOT NULL REFERENCES tasks,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (task, source, target)
) WITHOUT ROWID;
INSERT INTO "edges" VALUES(0,'fc1','fc2');
INSERT INTO "edges" VALUES(0,'fc2','head');
INSERT INTO "edges" VALUES(1,'fc1','fc2');
INSERT INTO "edges" VALUES(1,'fc2','head');
INSERT INTO "edges" VALUES(2,'fc1','fc2');
INSERT INTO "edges" VALUES(2,'fc2','head');
CREATE TABLE events (
    event INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks,
    reason TEXT NOT NULL,
    time TEXT NOT NULL
);
INSERT INTO "events" VALUES(1,0,'first','2026-11-25T20:24:24+00:00');
INSERT INTO "events" VALUES(2,0,'late','2026-11-25T20:24:24+00:00');
INSERT INTO "events" VALUES(3,1,'novelty','2026-11-25T20:24:24+00:00');
INSERT INTO "events" VALUES(4,2,'unimportant','2026-11-25T20:24:24+00:00');
CREATE TABLE groups (position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL);
INSERT INTO "groups" VALUES(1,'fc1','neurons');
INSERT INTO "groups" VALUES(2,'fc2','neurons');
CREATE TABLE importance (
    task INTEGER NOT NULL REFERENCES tasks,
    group_name TEXT NOT NULL,
    unit INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (task, group_name, unit),
    FOREIGN KEY (group_name, unit) REFERENCES units
) WITHOUT ROWID;
INSERT INTO "importance" VALUES(0,'fc1',0,0.0);
INSERT INTO "importance" VALUES(0,'fc1',1,1.0);
INSERT INTO "importance" VALUES(0,'fc1',2,2.0);
INSERT INTO "importance" VALUES(0,'fc1',3,3.0);
INSERT INTO "importance" VALUES(0,'fc1',4,4.0);
INSERT INTO "importance" VALUES(0,'fc2',0,0.0);
INSERT INTO "importance" VALUES(0,'fc2',1,0.5);
INSERT INTO "importance" VALUES(0,'fc2',2,1.0);
INSERT INTO "importance" VALUES(1,'fc1',1,2.0);
INSERT INTO "importance" VALUES(1,'fc1',2,4.0);
INSERT INTO "importance" VALUES(1,'fc1',3,6.0);
INSERT INTO "importance" VALUES(1,'fc1',4,8.0);
INSERT INTO "importance" VALUES(1,'fc1',5,10.0);
INSERT INTO "importance" VALUES(1,'fc1',6,12.0);
INSERT INTO "importance" VALUES(1,'fc1',7,14.0);
CREATE TABLE layers (
    task INTEGER NOT NULL REFERENCES tasks,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    group_name TEXT,
    in_width INTEGER,
    out_width INTEGER,
    parameters INTEGER NOT NULL,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
INSERT INTO "layers" VALUES(0,'fc1',0,'Linear','fc1',8,5,45);
INSERT INTO "layers" VALUES(0,'fc2',1,'Linear','fc2',5,4,24);
INSERT INTO "layers" VALUES(0,'head',2,'Linear',NULL,4,2,10);
INSERT INTO "layers" VALUES(1,'fc1',0,'Linear','fc1',8,7,63);
INSERT INTO "layers" VALUES(1,'fc2',1,'Linear','fc2',7,4,32);
INSERT INTO "layers" VALUES(1,'head',2,'Linear',NULL,4,2,10);
INSERT INTO "layers" VALUES(2,'fc1',0,'Linear','fc1',8,6,54);
INSERT INTO "layers" VALUES(2,'fc2',1,'Linear','fc2',6,4,28);
INSERT INTO "layers" VALUES(2,'head',2,'Linear',NULL,4,2,10);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('growmas','0.1.0');
CREATE TABLE metrics (
    task INTEGER NOT NULL REFERENCES tasks,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
INSERT INTO "metrics" VALUES(0,'accuracy',0.9);
INSERT INTO "metrics" VALUES(0,'accuracy/a',0.9);
CREATE TABLE tasks (
    task INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    started TEXT NOT NULL,
    finished TEXT
);
INSERT INTO "tasks" VALUES(0,'a','2026-11-25T20:24:24+00:00','2026-11-25T20:24:24+00:00');
INSERT INTO "tasks" VALUES(1,'b','2026-11-25T20:24:24+00:00','2026-11-25T20:24:24+00:00');
INSERT INTO "tasks" VALUES(2,'c','2026-11-25T20:24:24+00:00',NULL);
CREATE TABLE units (
    group_name TEXT NOT NULL REFERENCES groups (name),
    unit INTEGER NOT NULL,
    birth_task INTEGER NOT NULL REFERENCES tasks,
    birth_event INTEGER REFERENCES events,
    parent INTEGER,
    death_task INTEGER REFERENCES tasks,
    death_event INTEGER REFERENCES events,
    PRIMARY KEY (group_name, unit),
    FOREIGN KEY (group_name, parent) REFERENCES units DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
INSERT INTO "units" VALUES('fc1',0,0,NULL,NULL,1,3);
INSERT INTO "units" VALUES('fc1',1,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc1',2,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc1',3,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc1',4,0,1,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc1',5,1,3,4,NULL,NULL);
INSERT INTO "units" VALUES('fc1',6,1,3,NULL,2,4);
INSERT INTO "units" VALUES('fc1',7,1,3,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc2',0,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc2',1,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc2',2,0,NULL,NULL,NULL,NULL);
INSERT INTO "units" VALUES('fc2',3,0,2,NULL,NULL,NULL);
CREATE INDEX units_by_birth ON units (group_name, birth_task, birth_event);
CREATE INDEX units_by_death ON units (group_name, death_task) WHERE death_task IS NOT NULL;
COMMIT;
