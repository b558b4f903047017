package tenant

import (
	"hash/fnv"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// All keys of the library are made here. docs/keys.md draws them, and a golden test keeps the drawing true.
//
//	server  type id  head                                       the version of the state
//	                 head  attempts lane | lock | fence | beat | meta | owner |
//	                       pin | paused | unreadable | killed
//	                                                            read together with the queue's rows, in one range
//	                 queue …                                    package queue
//	                 state …                                    package statediff
//	                 dead                                       how many dead letters, a counter
//	                 dead stamp                                 a dead letter; a large item stands below it
//	                 work                                       the message that the lock was taken for
//	                 later word                                 messages sent with After
//	                 sent word                                  the stamp of the commit that sent them
//	                 once key                                   an idempotency key, with the outcome
//	                 failure lane | 2                           why the head of a lane, or locked work, failed last
//	                 timer name                                 a timer that is set
//	due     type shard time id kind name word                   when a server has to be told of one of the last three
//	alarm   type shard                                          a counter to watch: something due was set
//	ready   type shard id  mark                                 the server has something to do
//	                       claim process                        what a process begins there, while consumers are careful
//	parked  type shard id                                       the server has something to do, and cannot do it now
//	label   label                                               a counter to watch: a row was set below it
//	        label type id                                       as parked, of a server with that label; or it was pinned just now
//	trouble type id                                             the server has dead letters, has halted or is paused; or had
//	acts    stamp                                               what an operator did
//	bell    type shard                                          a counter to watch: a mark of the shard was set
//	process id  record | bell | mail …                          a process that waits for replies, and its mailbox
//	process id  ability type                                    what its consumers can handle
//	            holds consumer                                  the beat of a consumer that holds locks
//	            ended consumer                                  a counter: others ended one of its locks
//	            pulse                                           changes while it is at work, and others stand by
const (
	KeyServer  = "s"
	KeyReady   = "r"
	KeyDue     = "t"
	KeyAlarm   = "a"
	KeyBell    = "b"
	KeyProcess = "p"
	KeyParked  = "w"
	KeyLabel   = "l"
	KeyTrouble = "x"
	KeyActs    = "o"

	KeyLater   = "a"
	KeySent    = "b"
	KeyDead    = "d"
	KeyOnce    = "e"
	KeyFailure = "f"
	KeyHead    = "h" // nothing may be between this and the queue: they are read as one range
	KeyQueue   = "q"
	KeyState   = "s"
	KeyTimer   = "t"
	KeyWork    = "w"

	keyAttempts = "a"
	keyBeat     = "b"
	keyFence    = "f"
	keyLock     = "k"
	keyMeta     = "m"
	keyOwner    = "o"
	keyPin      = "p"
	keyPaused   = "s"
	keyUnread   = "u"
	keyKilled   = "x"

	keyMark  = "m"
	keyClaim = "c"

	keyRecord  = "r"
	keyMail    = "m"
	keyAbility = "s"
	keyEnded   = "e"
	keyHolds   = "l"
	keyPulse   = "h"
)

// Shards is how many bells a type has. It is part of the stored format.
const Shards = 8

// Keys makes the keys of one server. It begins with the type, so that two types never share a server.
type Keys struct{ Key backend.Key }

func KeysOf(r Ref) Keys {
	return Keys{backend.Key(nil).Str(KeyServer, r.Type, r.ID)}
}

func (t Keys) Head() backend.Key { return t.Key.Str(KeyHead) }
func (t Keys) Attempts(l queue.Lane) backend.Key {
	return t.Key.Str(KeyHead, keyAttempts).Int(int64(l))
}
func (t Keys) Beat() backend.Key               { return t.Key.Str(KeyHead, keyBeat) }
func (t Keys) Fence() backend.Key              { return t.Key.Str(KeyHead, keyFence) }
func (t Keys) LockedMessage() backend.Key      { return t.Key.Str(KeyWork) }
func (t Keys) Lock() backend.Key               { return t.Key.Str(KeyHead, keyLock) }
func (t Keys) Meta() backend.Key               { return t.Key.Str(KeyHead, keyMeta) }
func (t Keys) Owner() backend.Key              { return t.Key.Str(KeyHead, keyOwner) }
func (t Keys) Pin() backend.Key                { return t.Key.Str(KeyHead, keyPin) }
func (t Keys) Paused() backend.Key             { return t.Key.Str(KeyHead, keyPaused) }
func (t Keys) Unreadable() backend.Key         { return t.Key.Str(KeyHead, keyUnread) }
func (t Keys) Version() backend.Key            { return t.Head() }
func (t Keys) killed() backend.Key             { return t.Key.Str(KeyHead, keyKilled) }
func (t Keys) Queue() queue.Queue              { return queue.At(t.Key.Str(KeyQueue)) }
func (t Keys) State() backend.Key              { return t.Key.Str(KeyState) }
func (t Keys) Dead() backend.Key               { return t.Key.Str(KeyDead) }
func (t Keys) Once(key string) backend.Key     { return t.Key.Str(KeyOnce, key) }
func (t Keys) timer(name string) backend.Key   { return t.Key.Str(KeyTimer, name) }
func (t Keys) Delayed(word string) backend.Key { return t.Key.Str(KeyLater, word) }
func (t Keys) sent(word string) backend.Key    { return t.Key.Str(KeySent, word) }
func (t Keys) headAndQueue() backend.Range {
	return backend.Range{Begin: t.Head(), End: t.Queue().Rows().End}
}

// ShardOf spreads the servers of a type over its bells.
func ShardOf(id string) int64 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int64(h.Sum32() % Shards)
}

func ReadyShard(typ string, shard int64) backend.Key {
	return backend.Key(nil).Str(KeyReady, typ).Int(shard)
}

func ReadyServer(r Ref) backend.Key { return ReadyShard(r.Type, ShardOf(r.ID)).Str(r.ID) }
func ReadyMark(r Ref) backend.Key   { return ReadyShard(r.Type, ShardOf(r.ID)).Str(r.ID, keyMark) }
func ReadyClaims(r Ref) backend.Key {
	return ReadyShard(r.Type, ShardOf(r.ID)).Str(r.ID, keyClaim)
}
func ReadyClaim(r Ref, process string) backend.Key {
	return ReadyShard(r.Type, ShardOf(r.ID)).Str(r.ID, keyClaim, process)
}

func ParkedShard(typ string, shard int64) backend.Key { return backend.NewKey(KeyParked, typ, shard) }

// ParkedRow is where a server of a label is parked. Those that are not pinned have an index of their own.
func ParkedRow(r Ref, label string) backend.Key {
	if label == "" {
		return ParkedShard(r.Type, ShardOf(r.ID)).Str(r.ID)
	}
	return LabelRow(label, r)
}

// LabelBell is the bell of a label, below which are its rows.
func LabelBell(label string) backend.Key      { return backend.Key(nil).Str(KeyLabel, label) }
func LabelType(label, typ string) backend.Key { return backend.Key(nil).Str(KeyLabel, label, typ) }
func LabelRow(label string, r Ref) backend.Key {
	return backend.Key(nil).Str(KeyLabel, label, r.Type, r.ID)
}

func Bell(typ string, shard int64) backend.Key { return backend.Key(nil).Str(KeyBell, typ).Int(shard) }

func DueBell(typ string, shard int64) backend.Key {
	return backend.Key(nil).Str(KeyAlarm, typ).Int(shard)
}

// Presence makes the keys of a process.
type Presence struct{ Key backend.Key }

// PresenceOf makes the keys of a process.
func PresenceOf(process string) Presence { return Presence{backend.NewKey(KeyProcess, process)} }

func (p Presence) Record() backend.Key            { return p.Key.Str(keyRecord) }
func (p Presence) Pulse() backend.Key             { return p.Key.Str(keyPulse) }
func (p Presence) Bell() backend.Key              { return p.Key.Str(KeyBell) }
func (p Presence) Abilities() backend.Key         { return p.Key.Str(keyAbility) }
func (p Presence) Ability(typ string) backend.Key { return p.Key.Str(keyAbility, typ) }
func (p Presence) Mail() queue.Queue              { return queue.At(p.Key.Str(keyMail)) }
