package dserver

import (
	"hash/fnv"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// All keys of the library are made here. docs/keys.md draws them, and a golden test keeps the drawing true.
//
//	server  type id  head                                       the version of the state
//	                 head  attempts lane | lock | fence | beat | meta | owner |
//	                       unreadable | killed
//	                                                            read together with the queue's rows, in one range
//	                 queue …                                    package queue
//	                 state …                                    package statediff
//	                 dead                                       how many dead letters, a counter
//	                 dead stamp                                 a dead letter; a large item stands below it
//	                 work                                       the message that the lock was taken for
//	                 later word                                 messages sent with After
//	                 sent word                                  the stamp of the commit that sent them
//	                 once key                                   an idempotency key, with the outcome
//	                 timer name                                 a timer that is set
//	due     type shard time id kind name word                   when a server has to be told of one of the last three
//	alarm   type shard                                          a counter to watch: something due was set
//	ready   type shard id  mark                                 the server has something to do
//	                       claim process                        what a process begins there, while consumers are careful
//	parked  type shard id                                       the server has something to do, and cannot do it now
//	bell    type shard                                          a counter to watch: a mark of the shard was set
//	process id  record | bell | mail …                          a process that waits for replies, and its mailbox
//	process id  ability type                                    what its consumers can handle
//	            holds consumer                                  the beat of a consumer that holds locks
//	            ended consumer                                  a counter: others ended one of its locks
const (
	keyServer  = "s"
	keyReady   = "r"
	keyDue     = "t"
	keyAlarm   = "a"
	keyBell    = "b"
	keyProcess = "p"
	keyParked  = "w"

	keyLater = "a"
	keySent  = "b"
	keyDead  = "d"
	keyOnce  = "e"
	keyHead  = "h" // nothing may be between this and the queue: they are read as one range
	keyQueue = "q"
	keyState = "s"
	keyTimer = "t"
	keyWork  = "w"

	keyAttempts = "a"
	keyBeat     = "b"
	keyFence    = "f"
	keyLock     = "k"
	keyMeta     = "m"
	keyOwner    = "o"
	keyUnread   = "u"
	keyKilled   = "x"

	keyMark  = "m"
	keyClaim = "c"

	keyRecord  = "r"
	keyMail    = "m"
	keyAbility = "s"
	keyEnded   = "e"
	keyHolds   = "l"
)

// shards is how many bells a type has. It is part of the stored format.
const shards = 8

// tenant makes the keys of one server. It begins with the type, so that two types never share a server.
type tenant struct{ key backend.Key }

func tenantOf(r Ref) tenant { return tenant{backend.Key(nil).Str(keyServer, r.Type, r.ID)} }

func (t tenant) head() backend.Key { return t.key.Str(keyHead) }
func (t tenant) attempts(l queue.Lane) backend.Key {
	return t.key.Str(keyHead, keyAttempts).Int(int64(l))
}
func (t tenant) beat() backend.Key               { return t.key.Str(keyHead, keyBeat) }
func (t tenant) fence() backend.Key              { return t.key.Str(keyHead, keyFence) }
func (t tenant) lockedMessage() backend.Key      { return t.key.Str(keyWork) }
func (t tenant) lock() backend.Key               { return t.key.Str(keyHead, keyLock) }
func (t tenant) meta() backend.Key               { return t.key.Str(keyHead, keyMeta) }
func (t tenant) owner() backend.Key              { return t.key.Str(keyHead, keyOwner) }
func (t tenant) unreadable() backend.Key         { return t.key.Str(keyHead, keyUnread) }
func (t tenant) version() backend.Key            { return t.head() }
func (t tenant) killed() backend.Key             { return t.key.Str(keyHead, keyKilled) }
func (t tenant) queue() queue.Queue              { return queue.At(t.key.Str(keyQueue)) }
func (t tenant) state() backend.Key              { return t.key.Str(keyState) }
func (t tenant) dead() backend.Key               { return t.key.Str(keyDead) }
func (t tenant) once(key string) backend.Key     { return t.key.Str(keyOnce, key) }
func (t tenant) timer(name string) backend.Key   { return t.key.Str(keyTimer, name) }
func (t tenant) delayed(word string) backend.Key { return t.key.Str(keyLater, word) }
func (t tenant) sent(word string) backend.Key    { return t.key.Str(keySent, word) }
func (t tenant) headAndQueue() backend.Range {
	return backend.Range{Begin: t.head(), End: t.queue().Rows().End}
}

// shardOf spreads the servers of a type over its bells.
func shardOf(id string) int64 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int64(h.Sum32() % shards)
}

func readyShard(typ string, shard int64) backend.Key {
	return backend.Key(nil).Str(keyReady, typ).Int(shard)
}

func readyServer(r Ref) backend.Key { return readyShard(r.Type, shardOf(r.ID)).Str(r.ID) }
func readyMark(r Ref) backend.Key   { return readyShard(r.Type, shardOf(r.ID)).Str(r.ID, keyMark) }
func readyClaims(r Ref) backend.Key { return readyShard(r.Type, shardOf(r.ID)).Str(r.ID, keyClaim) }
func readyClaim(r Ref, process string) backend.Key {
	return readyShard(r.Type, shardOf(r.ID)).Str(r.ID, keyClaim, process)
}

func parkedShard(typ string, shard int64) backend.Key { return backend.NewKey(keyParked, typ, shard) }
func parked(r Ref) backend.Key                        { return parkedShard(r.Type, shardOf(r.ID)).Str(r.ID) }

// claimOf tells whose claim a key is, and of which server.
func claimOf(key backend.Key) (ref Ref, process string, ok bool) {
	elements, err := key.Elements()
	if err != nil || len(elements) != 6 || elements[0] != keyReady || elements[4] != keyClaim {
		return ref, "", false
	}
	typ, isType := elements[1].(string)
	id, isID := elements[3].(string)
	process, isProcess := elements[5].(string)
	return Ref{typ, id}, process, isType && isID && isProcess
}

func bell(typ string, shard int64) backend.Key { return backend.Key(nil).Str(keyBell, typ).Int(shard) }

func dueBell(typ string, shard int64) backend.Key {
	return backend.Key(nil).Str(keyAlarm, typ).Int(shard)
}

// setReady makes consumers look at a server.
func setReady(tx backend.Tx, r Ref) {
	tx.Set(readyMark(r), nil)
	tx.Add(bell(r.Type, shardOf(r.ID)), 1)
}

// presence makes the keys of a process.
type presence struct{ key backend.Key }

func presenceOf(process string) presence { return presence{backend.NewKey(keyProcess, process)} }

func (p presence) record() backend.Key { return p.key.Str(keyRecord) }
func (p presence) bell() backend.Key   { return p.key.Str(keyBell) }
func (p presence) abilities() backend.Key {
	return p.key.Str(keyAbility)
}
func (p presence) ability(typ string) backend.Key { return p.key.Str(keyAbility, typ) }
func (p presence) mail() queue.Queue              { return queue.At(p.key.Str(keyMail)) }
