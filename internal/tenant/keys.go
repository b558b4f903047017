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
//	                 import                                     it is being imported: since which commit
//	                 timer name                                 a timer that is set
//	due     shard time type id kind name word                   when a server has to be told of one of the last three
//	alarm   shard                                               a counter to watch: something due was set
//	ready   shard type id  mark                                 the server has something to do
//	                       claim process                        what a process begins there, while consumers are careful
//	parked  shard type id                                       the server has something to do, and cannot do it now
//	label   label                                               a counter to watch: a row was set below it
//	        label type id                                       as parked, of a server with that label; or it was pinned just now
//	trouble type id                                             the server has dead letters, has halted or is paused; or had
//	acts    stamp                                               what an operator did
//	bell    shard                                               a counter to watch: a mark of the shard was set
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
	KeyImport  = "c"
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

	KeyMark  = "m"
	keyClaim = "c"

	keyRecord  = "r"
	keyMail    = "m"
	keyAbility = "s"
	keyEnded   = "e"
	keyHolds   = "l"
	keyPulse   = "h"
)

// A store has a fixed number of shards, each with a bell, an alarm, and its part of the marks, of those that are parked and of
// what is due. The servers of a type are spread over shardsOfType of them, a group, so that no counter is written by each push
// of a busy type; and types share groups, so that a consumer of many types watches no more than all shards. These numbers are
// part of the stored format.
const (
	shardsOfType = 8
	groups       = 16

	Shards = shardsOfType * groups
)

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
func (t Keys) Sent(word string) backend.Key    { return t.Key.Str(KeySent, word) }
func (t Keys) headAndQueue() backend.Range {
	return backend.Range{Begin: t.Head(), End: t.Queue().Rows().End}
}

// ShardOf is the shard of a server.
func ShardOf(r Ref) int64 { return firstShard(r.Type) + int64(hash(r.ID)%shardsOfType) }

// ShardsOf is the shards of a type.
func ShardsOf(typ string) []int64 {
	shards := make([]int64, shardsOfType)
	for i := range shards {
		shards[i] = firstShard(typ) + int64(i)
	}
	return shards
}

func firstShard(typ string) int64 { return shardsOfType * int64(hash(typ)%groups) }

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

func ReadyShard(shard int64) backend.Key     { return backend.Key(nil).Str(KeyReady).Int(shard) }
func ReadyServer(r Ref) backend.Key          { return ReadyShard(ShardOf(r)).Str(r.Type, r.ID) }
func ReadyMark(r Ref) backend.Key            { return ReadyServer(r).Str(KeyMark) }
func ReadyClaims(r Ref) backend.Key          { return ReadyServer(r).Str(keyClaim) }
func ReadyClaim(r Ref, p string) backend.Key { return ReadyClaims(r).Str(p) }

func ParkedShard(shard int64) backend.Key { return backend.NewKey(KeyParked, shard) }

// ParkedRow is where a server of a label is parked. Those that are not pinned have an index of their own.
func ParkedRow(r Ref, label string) backend.Key {
	if label == "" {
		return ParkedShard(ShardOf(r)).Str(r.Type, r.ID)
	}
	return LabelRow(label, r)
}

// LabelBell is the bell of a label, below which are its rows.
func LabelBell(label string) backend.Key { return backend.Key(nil).Str(KeyLabel, label) }

func LabelRow(label string, r Ref) backend.Key {
	return backend.Key(nil).Str(KeyLabel, label, r.Type, r.ID)
}

func Bell(shard int64) backend.Key    { return backend.Key(nil).Str(KeyBell).Int(shard) }
func DueBell(shard int64) backend.Key { return backend.Key(nil).Str(KeyAlarm).Int(shard) }

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
