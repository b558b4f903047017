package postgres

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
)

// The schema holds:
//
//	kv        the keys below headBytes, and a row for each head of longer ones
//	long      the longer ones, by their heads (long.go)
//	clock     a sequence: the number of the newest commit. Who commits holds its lock
//	commits   (session, attempt): a row for each commit of a session whose outcome may still be asked for
//	sessions  the handles that are open: a mark that moves, and whether it listens
//	about     one row: the version of all this
//
// No row is updated by each commit: beside an old snapshot its versions could not be removed, and each commit would walk
// through all of them.
const schemaVersion = 1

// headBytes is where a key is long. An entry of a B-tree ends at some 2,700 bytes.
const headBytes = 2000

// codeMoved is the SQLSTATE of a commit that found another clock than it expected.
const codeMoved = "DS001"

// lockClass tells the advisory locks of this package from those of others: "DSrv". Beside it stands an oid, of the clock.
const lockClass = 0x44537276

// schemaScript makes the tables and functions of version 1. In it, $S is the schema and $L the class of its lock.
//
//   - moved: fails, where the clock is not the one that a commit expects.
//   - resolve: fences off an attempt and tells its outcome: 1 it was committed, 0 it was not, -1 the session is gone.
//   - look: the clock, when nobody is committing.
//   - plus: the sum of two counters, eight bytes little-endian, of which another length is cut or filled up with zeros.
const schemaScript = `
CREATE TABLE $S.kv (k bytea PRIMARY KEY, v bytea NOT NULL) WITH (fillfactor = 80, vacuum_truncate = off,
	autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
	autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);
CREATE TABLE $S.long (head bytea NOT NULL, digest bytea NOT NULL, rest bytea NOT NULL, v bytea NOT NULL,
	PRIMARY KEY (head, digest));
CREATE SEQUENCE $S.clock MINVALUE 0 START 0;
CREATE TABLE $S.commits (session bigint, attempt bigint, PRIMARY KEY (session, attempt)) WITH (
	autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE $S.sessions (id bigint PRIMARY KEY, beat bigint NOT NULL DEFAULT 0, hears boolean NOT NULL DEFAULT false);
CREATE TABLE $S.about (version integer NOT NULL);

CREATE FUNCTION $S.plus(a bytea, b bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	sum bytea := '\x0000000000000000';
	carry integer := 0;
BEGIN
	a := substring(a || sum FROM 1 FOR 8);
	FOR i IN 0..7 LOOP
		carry := carry + get_byte(a, i) + get_byte(b, i);
		sum := set_byte(sum, i, carry & 255);
		carry := carry >> 8;
	END LOOP;
	RETURN sum;
END $$;

CREATE FUNCTION $S.moved() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'dserver: others committed' USING ERRCODE = '$M';
END $$;

-- It writes one long key: 0 sets it, 1 removes it, 2 adds to it.
CREATE FUNCTION $S.write_long(h bytea, r bytea, value bytea, fate integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF fate = 1 THEN
		DELETE FROM $S.long WHERE head = h AND digest = sha256(r);
		DELETE FROM $S.kv WHERE k = h AND NOT EXISTS (SELECT FROM $S.long WHERE head = h);
		RETURN;
	END IF;
	INSERT INTO $S.kv VALUES (h, '') ON CONFLICT DO NOTHING;
	INSERT INTO $S.long AS o VALUES (h, sha256(r), r, value) ON CONFLICT (head, digest) DO UPDATE
		SET v = CASE fate WHEN 2 THEN $S.plus(o.v, excluded.v) ELSE excluded.v END;
END $$;

CREATE FUNCTION $S.resolve(me bigint, this bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	is_open boolean;
BEGIN
	PERFORM pg_advisory_xact_lock($L, '$S.clock'::regclass::oid::integer);
	PERFORM setval('$S.clock', last_value + 1) FROM $S.clock;
	UPDATE $S.sessions SET beat = beat + 1 WHERE id = me;
	is_open := FOUND;
	IF EXISTS (SELECT FROM $S.commits WHERE session = me AND attempt = this) THEN
		RETURN 1;
	END IF;
	RETURN CASE WHEN is_open THEN 0 ELSE -1 END;
END $$;

CREATE FUNCTION $S.look() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared($L, '$S.clock'::regclass::oid::integer);
	RETURN (SELECT last_value FROM $S.clock);
END $$;

CREATE FUNCTION $S.hear(me bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock($L, '$S.clock'::regclass::oid::integer);
	UPDATE $S.sessions SET hears = true WHERE id = me;
	RETURN CASE WHEN FOUND THEN 0 ELSE -1 END;
END $$;

-- It makes a session, with the row of a commit that did nothing.
CREATE FUNCTION $S.enter(me bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock($L, '$S.clock'::regclass::oid::integer);
	INSERT INTO $S.sessions VALUES (me);
	INSERT INTO $S.commits VALUES (me, 0);
	RETURN (SELECT last_value FROM $S.clock);
END $$;

INSERT INTO $S.about VALUES (1);
`

// quoted is an SQL identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// channel is what is notified. Its length is limited as that of an identifier.
func channel(schema string) string {
	h := fnv.New64a()
	h.Write([]byte(schema))
	return fmt.Sprintf("dserver_%016x", h.Sum64())
}

// expand puts the schema's name into a statement. A name with a quote or a dollar is refused before (checkName).
func (o *options) expand(script string) string {
	return strings.NewReplacer("$S", quoted(o.schema), "$L", fmt.Sprint(lockClass), "$H", fmt.Sprint(headBytes),
		"$M", codeMoved, "$C", channel(o.schema), "$T", fmt.Sprint(o.stepMax.Milliseconds())).Replace(script)
}

// The server that this package was tested with first. An older one may lack what is used.
const minServer = 150000

// checkServer is one look at what the promises rest on.
const checkServer = `SELECT current_setting('server_version_num')::int8, pg_is_in_recovery(), current_setting('fsync'),
	current_setting('synchronous_commit'), current_setting('full_page_writes'),
	current_setting('synchronous_standby_names') = '' AND EXISTS (SELECT FROM pg_stat_replication)`

// inspect refuses a server on which a commit that was acknowledged could be lost, or nothing be committed.
func (c *connection) inspect(ctx context.Context, o *options) (warning error, err error) {
	row, err := c.row(ctx, checkServer)
	if err != nil {
		return nil, judge("look at the server's settings", err)
	}
	version, isStandby, fsync, commit := int64Of(row[0]), row[1][0] != 0, string(row[2]), string(row[3])
	isFollowed := row[5][0] != 0
	switch {
	case version < minServer:
		return nil, fmt.Errorf("postgres: the server is version %d; it has to be %d or newer, which this was tested with",
			version/10000, minServer/10000)
	case isStandby:
		return nil, &standby{}
	case o.relaxed:
		return nil, nil
	case fsync == "off":
		return nil, fmt.Errorf("postgres: the server is set to fsync=off: a crash would lose what was acknowledged and may " +
			"damage the database. Set it to on (or open with Relaxed, which tells what you give up)")
	case commit == "off":
		return nil, fmt.Errorf("postgres: synchronous_commit is off, for the server, the database or the role: a crash " +
			"would lose what was acknowledged. Set it to on (or open with Relaxed, which tells what you give up)")
	}
	if isFollowed {
		warning = fmt.Errorf("postgres: the server has a standby and waits for none (synchronous_standby_names is empty): " +
			"a failover may lose the last commits that were acknowledged")
	} else if commit == "local" {
		warning = fmt.Errorf("postgres: synchronous_commit is local: commits do not wait for a standby, so a failover may " +
			"lose the last ones that were acknowledged")
	}
	return warning, nil
}

// standby refuses a server that only follows another. After a failover it may be promoted soon, so it is waited for like
// one that is not there, but for Open.
type standby struct{}

func (*standby) Error() string {
	return "postgres: the server is a standby, which cannot commit: name the primary, or several hosts and " +
		"target_session_attrs=read-write"
}

// createSchema makes the schema, or checks the one that is there. It is one transaction, so of several processes one
// makes it.
func (c *connection) createSchema(ctx context.Context, o *options) error {
	const begin = "BEGIN; SELECT pg_advisory_xact_lock($L, hashtext('$C'))"
	if err := c.script(ctx, o.expand(begin)); err != nil {
		return judge("create the schema", err)
	}
	err := c.createLocked(ctx, o)
	end := "COMMIT"
	if err != nil {
		end = "ROLLBACK"
	}
	if failed := c.script(ctx, end); err == nil {
		err = judge("create the schema", failed)
	}
	return err
}

func (c *connection) createLocked(ctx context.Context, o *options) error {
	row, err := c.row(ctx, `SELECT to_regnamespace(`+literal(quoted(o.schema))+`) IS NOT NULL,
		to_regclass(`+literal(quoted(o.schema)+".about")+`) IS NOT NULL,
		EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(`+literal(quoted(o.schema))+`)::oid)`)
	if err != nil {
		return judge("look at the schema", err)
	}
	isThere, isOurs, isUsed := row[0][0] != 0, row[1][0] != 0, row[2][0] != 0
	switch {
	case isOurs:
		return c.checkVersion(ctx, o)
	case isUsed:
		return fmt.Errorf("postgres: the schema %q has tables of something else; name another by dserver_schema", o.schema)
	case !isThere:
		if err := c.script(ctx, "CREATE SCHEMA "+quoted(o.schema)); err != nil {
			if codeOf(err) == codePrivilege {
				return fmt.Errorf("postgres: the schema %q is not there, and this role may not create it: let an "+
					"administrator run CREATE SCHEMA %s AUTHORIZATION the role: %w", o.schema, quoted(o.schema), err)
			}
			return judge("create the schema", err)
		}
	}
	return judge("create the schema's tables", c.script(ctx, o.expand(schemaScript)))
}

func (c *connection) checkVersion(ctx context.Context, o *options) error {
	row, err := c.row(ctx, o.expand("SELECT max(version)::int8 FROM $S.about"))
	if err != nil {
		return judge("look at the schema", err)
	}
	switch version := int64Of(row[0]); {
	case version > schemaVersion:
		return fmt.Errorf("postgres: the schema %q was written by a newer release (version %d, this one knows %d); "+
			"update this program", o.schema, version, schemaVersion)
	case version < schemaVersion:
		return fmt.Errorf("postgres: the schema %q has version %d, which this release does not know", o.schema, version)
	}
	return nil
}

// literal is a string of SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
