/* The client and the backend of Voltlane, for C. Made from sdk/c/src by `make header`: do not edit.
 *
 * Level 1, vl_machine_client and vl_machine_backend: bytes go in and come out, and you have the socket and the clock.
 * Level 2, vl_client and vl_backend: they own their sockets, and do everything within vl_client_poll and vl_backend_poll.
 * Neither has a thread.
 *
 * Rules for all calls:
 * - A handle is used by one thread at a time. A call beside another one on the same handle fails with VL_WRONG_THREAD; only the wakes may.
 * - A call that fails returns a vl_result below 0, and vl_last_error has words for it. Null is an error and never a crash.
 * - What a call gives is valid until the next call on the same handle. Nothing that you give is kept.
 * - Times are microseconds. Texts end with a zero and are UTF-8. Lengths are bytes.
 * - After VL_PANIC a handle can only be freed.
 */

#ifndef VOLTLANE_H
#define VOLTLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Options begin with these: set what you need, and leave the rest. */
#define VL_CLIENT_OPTIONS { .size = sizeof(vl_client_options), .give_up_after_us = 30000000 }
#define VL_BACKEND_OPTIONS { .size = sizeof(vl_backend_options) }


// The seed of a machine, and the randomness of a connection, in bytes.
#define VL_RANDOM_BYTES 32

// Its session ends with 303.
#define VL_OVERFLOW_END 0

// The oldest packets for it are given up, it and the backend are told with VL_EVENT_GAP, and it goes on. Over a link of version 2, and for a
// client of version 2, the session ends in any case.
#define VL_OVERFLOW_GAP 1

// What happened.
typedef enum vl_event_type {
  // A client's session began, with `id`.
  VL_EVENT_CONNECTED = 1,
  // A packet came: `data`, `len`, `number`. At a backend from `id`.
  VL_EVENT_PACKET,
  // The connection is gone, which is no error: the client comes back by itself. `text`, `retry_us`.
  VL_EVENT_DROPPED,
  // The session goes on. `missed`, `away_us`; at a backend `id`.
  VL_EVENT_RESUMED,
  // Everything that was missed has come. At a backend: every session that the edge has was told.
  VL_EVENT_CAUGHT_UP,
  // Packets will not come: `count` of them from `number` on, for the reason `code`. At a backend `id`, and `is_up` if they are its client's.
  VL_EVENT_GAP,
  // A tick is due. `late_us`.
  VL_EVENT_TICK,
  // The session is over: `code`, `text`, `up`, `down`; at a backend `id`.
  VL_EVENT_ENDED,
  // A session that is new to the backend: `id`, `again`, its token in `data` and `len`, `note`; in `count` the packets to it that the edge
  // has numbered for earlier processes of the backend.
  VL_EVENT_JOINED,
  // A client's connection is gone, and the edge keeps the session: `id`, `expires_us`.
  VL_EVENT_AWAY,
  // A client shows another token: `id`, `data`, `len`.
  VL_EVENT_TOKEN,
  // The edge is there. `count` sessions, if it tells.
  VL_EVENT_EDGE_CONNECTED,
  // The edge is gone, and keeps its clients.
  VL_EVENT_EDGE_LOST,
  // A client waits for vl_backend_admit or vl_backend_refuse: `id`, its token in `data` and `len`.
  VL_EVENT_VERIFY,
  // Volatile packets were not sent before the next one: `count`. Only a machine tells.
  VL_EVENT_SKIPPED,
} vl_event_type;

// What a call returns.
typedef enum vl_result {
  // It is done.
  VL_OK = 0,
  // There is no room for the packet now. Poll, and try again.
  VL_NO_ROOM = -1,
  // A packet or a text is too long. It will never be taken.
  VL_TOO_LONG = -2,
  // The session is over, or the backend is closed. Nothing more comes.
  VL_OVER = -3,
  // Another client, of this process or another one, has the session file.
  VL_SESSION_IN_USE = -4,
  // An option cannot be.
  VL_CONFIG = -5,
  // Another thread is in a call on this handle, or this call is within one.
  VL_WRONG_THREAD = -6,
  // The library has a defect: this call or an earlier one on this handle ended in the middle. The handle can only be freed.
  VL_PANIC = -7,
  // An argument is null, or out of its range.
  VL_ARGUMENT = -8,
  // It was not done in time.
  VL_TIMED_OUT = -9,
  // The system refused something.
  VL_IO = -10,
  // The peer of a backend is no edge, or broke the protocol. Close its connection.
  VL_PROTOCOL = -11,
} vl_result;

// What a client is doing.
typedef enum vl_state {
  // It waits until it tries again.
  VL_STATE_WAITING = 1,
  // A connection is being opened.
  VL_STATE_CONNECTING,
  // Version 2: for the edge's key.
  VL_STATE_AWAIT_KEY,
  // Version 2: for its id.
  VL_STATE_AWAIT_ID,
  // Version 2: for a challenge.
  VL_STATE_AWAIT_CHALLENGE,
  // Version 2: for a Ping.
  VL_STATE_AWAIT_PING,
  // Version 3: for a Welcome.
  VL_STATE_AWAIT_WELCOME,
  // Version 3: for an Answer.
  VL_STATE_AWAIT_ANSWER,
  // Version 3: for a RESUMED.
  VL_STATE_AWAIT_RESUMED,
  // Packets go.
  VL_STATE_ESTABLISHED,
  // It has said why it leaves.
  VL_STATE_LEAVING,
  // The connection is to be closed.
  VL_STATE_CLOSING,
  // The session is over.
  VL_STATE_ENDED,
  // Another one, of a later version.
  VL_STATE_OTHER,
} vl_state;

// How a connection ended.
typedef enum vl_closed {
  // In order: everything that the peer sent was read.
  VL_CLOSED_EOF = 0,
  // With an error, or by this side.
  VL_CLOSED_ERROR = 1,
} vl_closed;

// A backend with sockets of its own. One call on it at a time, from any thread; vl_backend_wake may be called beside another.
typedef struct vl_backend vl_backend;

// A client with a socket of its own. One call on it at a time, from any thread; vl_client_wake may be called beside another.
typedef struct vl_client vl_client;

// A backend without sockets. One call on it at a time, from any thread.
//
// Its owner accepts the edge's connection, feeds what it reads, writes what is put out, and closes the connection when
// vl_machine_backend_wants_close says so or a feed fails.
typedef struct vl_machine_backend vl_machine_backend;

// A client without a socket. One call on it at a time, from any thread.
//
// Its owner opens a connection when vl_machine_client_wants_connect says so, feeds what it reads, writes what is put out, and closes the
// connection when vl_machine_client_wants_close says so. Times are microseconds of any clock that never goes back.
typedef struct vl_machine_client vl_machine_client;

// What an application has saved of a client.
typedef struct vl_restored {
  // The client.
  uint64_t id;
  // The number of its last packet that the application has saved with what came of it.
  uint64_t number;
} vl_restored;

// The options of a backend. Begin with VL_BACKEND_OPTIONS, which sets `size`.
typedef struct vl_backend_options {
  // sizeof(vl_backend_options)
  uint32_t size;
  // The version of the link that the edge is asked for: 2, 3, or 0 for 2.
  uint32_t version;
  // Where the edge comes: "host:port", "unix:/path" or "unix:@name". A machine ignores it.
  const char *address;
  // How often VL_EVENT_TICK comes, in microseconds. 0: never. A machine ignores it.
  int64_t tick_us;
  // Whether each client waits for vl_backend_admit or vl_backend_refuse, after VL_EVENT_VERIFY. A machine ignores it.
  uint8_t verify;
  // The maximum length of a packet to a client. 0: 8 MiB.
  uint32_t max_send_bytes;
  // The capacity of the send queue in bytes. 0: 64 MiB.
  size_t queue_bytes;
  // The secret that the edge must prove, and that is proven to it: 32 to 512 bytes, those of its master.token_file. Such a link has version
  // 3. Null: none.
  const void *secret;
  // The length of the secret.
  size_t secret_len;
  // Where an earlier process of the application ended: it has saved what came of these packets, and they are not told again. So each packet
  // counts once even if that process was killed. A client that is not there any more ends. Version 3 of the link; a machine ignores it.
  const struct vl_restored *restored;
  // How many there are.
  size_t restored_len;
  // What becomes of a client for which there is no room, since it takes less than it is sent: VL_OVERFLOW_END or VL_OVERFLOW_GAP.
  uint32_t overflow;
} vl_backend_options;

// What became of the packets of one direction: numbered = acknowledged + superseded + gapped + open_sent + open_unsent.
typedef struct vl_ledger {
  // Packets that were given a number.
  uint64_t numbered;
  // Those that were acknowledged.
  uint64_t acknowledged;
  // Those that a newer one took the place of.
  uint64_t superseded;
  // Those that were given up.
  uint64_t gapped;
  // Those that were sent and may have arrived.
  uint64_t open_sent;
  // Those that were never sent.
  uint64_t open_unsent;
  // Volatile packets that were not sent. They have no numbers.
  uint64_t skipped;
} vl_ledger;

// An event. Everything in it is valid until the next call on its handle. The library makes it, so later versions may add fields at its end.
typedef struct vl_event {
  // What happened. It says which of the fields have a meaning; the others are 0.
  enum vl_event_type type;
  // A code of the protocol: of an end, or the reason of a gap.
  uint16_t code;
  // Whether the session is older than what this backend knows.
  uint8_t again;
  // Whether a gap is in what the client sent.
  uint8_t is_up;
  // The client.
  uint64_t id;
  // The place of a packet in its session and direction, from 1. 0 for a volatile one.
  uint64_t number;
  // The number of packets that were missed, and come now.
  uint64_t missed;
  // A number of packets or sessions.
  uint64_t count;
  // Bytes, never null.
  const uint8_t *data;
  // The number of bytes.
  size_t len;
  // Words for people, which end with a zero. Never null.
  const char *text;
  // What a backend noted of a client. Never null.
  const char *note;
  // The pause before the next attempt, in microseconds.
  int64_t retry_us;
  // How long the client was away, in microseconds.
  int64_t away_us;
  // The time until the session expires, in microseconds.
  int64_t expires_us;
  // How late a tick is, in microseconds.
  int64_t late_us;
  // What became of the packets to the edge.
  struct vl_ledger up;
  // What became of the packets to the client.
  struct vl_ledger down;
} vl_event;

// To whom something is sent. Made by vl_to_client, vl_to_group, vl_to_everyone and vl_without.
typedef struct vl_target {
  // 1 a client, 2 a group, 3 everyone.
  uint32_t kind;
  // The client, or the number of the group.
  uint64_t id;
  // Clients that are left out.
  const uint64_t *without;
  // How many of them, at most 16.
  size_t without_len;
} vl_target;

// The options of a client. Begin with VL_CLIENT_OPTIONS, which sets `size` and what is not 0 by default.
//
// Texts end with a zero. Nothing is kept of them when the call returns.
typedef struct vl_client_options {
  // sizeof(vl_client_options)
  uint32_t size;
  // The versions of the protocol: 2, 3, or 0 for version 3 and version 2 with an edge that has no other.
  uint32_t version;
  // The edge: "host:port", "unix:/path" or "unix:@name"; with the build options WS and TLS also "ws://", "tls://" and "wss://". A machine
  // ignores it.
  const char *address;
  // Another address of the edge, to be tried when the first cannot be reached. Null: none.
  const char *or_address;
  // What the client shows when it joins, at most 4,096 bytes. It goes only to an edge that is known: by `edge_key`, by its certificate, or
  // at a Unix socket.
  const void *token;
  // The length of the token.
  size_t token_len;
  // The public key that the edge must prove, as 66 hexadecimal digits. Null: any.
  const char *edge_key;
  // Another key that it may have instead, while keys are changed. Null: none.
  const char *or_edge_key;
  // A session of version 2 to be resumed, as vl_client_saved_session gave it. Null: none.
  const void *saved;
  // The length of the saved session.
  size_t saved_len;
  // Whether a new session begins by itself after one whose end allows that. A machine ignores it.
  uint8_t start_over;
  // Whether the client goes on when somebody else has resumed its session.
  uint8_t take_over;
  // Whether a token may go to the first edge that answers. Somebody in between can read it then.
  uint8_t trust_first_use;
  // How long the client tries to begin its first session, in microseconds. Negative: for ever. A machine ignores it.
  int64_t give_up_after_us;
  // How often VL_EVENT_TICK comes, in microseconds. 0: never. A machine ignores it.
  int64_t tick_us;
  // The maximum length of a packet to the client. 0: 8 MiB.
  uint32_t max_receive_bytes;
  // The capacity of the send queue in packets. 0: 8,192.
  uint32_t queue_packets;
  // The capacity of the send queue in bytes. 0: 8 MiB.
  size_t queue_bytes;
  // A PEM file with the authorities that an edge at "tls://" or "wss://" is to be proven by. Null: those that browsers trust. A machine
  // ignores it.
  const char *authority_file;
  // A file that keeps the session, so that a process that begins again, however it ended, goes on with it. Nothing leaves before it is in
  // the file, so each write waits for the disk. It is locked while the client lives, has mode 0600, and is as secret as the session's keys.
  // Null: none. A machine ignores it.
  const char *session_file;
  // With a session file: whether packets count as acknowledged, and leave, with vl_client_save. Then each counts once in both directions,
  // however often the process is killed. Otherwise packets that were taken since the file was written last come again.
  uint8_t ack_when_saved;
} vl_client_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes a backend that listens, and serves one edge at a time.
int vl_backend_open(const struct vl_backend_options *options, struct vl_backend **backend);

// Copies the address at which it listens, and a zero, to `out`, as much as fits into `room`. Returns its length. With port 0 in the options
// this is the one that the system chose.
size_t vl_backend_address(const struct vl_backend *backend,
                          char *out,
                          size_t room);

// Does what there is to do, and waits for an event at most `timeout_us` microseconds; for ever if that is negative. Returns 1 for an event, 0
// for none, and a vl_result below 0: VL_OVER if nothing more comes.
int vl_backend_poll(struct vl_backend *backend,
                    const struct vl_event **event,
                    int64_t timeout_us);

// Sends a packet once, in order. `number` gets its number if it is for one client, and may be null. VL_NO_ROOM if too much waits for the
// link. To a client that has ended nothing is sent, and that is no error. It leaves with the next poll.
int vl_backend_send(struct vl_backend *backend,
                    struct vl_target to,
                    const void *data,
                    size_t len,
                    uint64_t *number);

// Sends a packet in place of an older one that waits under the same key.
int vl_backend_send_latest(struct vl_backend *backend,
                           struct vl_target to,
                           uint64_t key,
                           const void *data,
                           size_t len);

// Sends a packet now or not at all.
int vl_backend_send_volatile(struct vl_backend *backend,
                             struct vl_target to,
                             const void *data,
                             size_t len);

// The members of the group of this name, which exists while it has members. Without a backend or a name, the target of nobody.
struct vl_target vl_to_group(const struct vl_backend *backend,
                             const char *name);

// Makes a client a member of a group. One that has ended is passed over.
int vl_backend_add(struct vl_backend *backend, struct vl_target group, uint64_t id);

// Ends a membership, if there is one.
int vl_backend_remove(struct vl_backend *backend, struct vl_target group, uint64_t id);

// Ends a session with a code (401, 405, or 500 to 699) and a text, which may be null.
int vl_backend_kick(struct vl_backend *backend, uint64_t id, uint16_t code, const char *words);

// Lets a client in that waits since VL_EVENT_VERIFY, with a note of at most 64 bytes, which may be null. One that has left is passed over.
int vl_backend_admit(struct vl_backend *backend,
                     uint64_t id,
                     const char *note);

// Refuses a client that waits since VL_EVENT_VERIFY, with a code (405, or 600 to 699) and a text, which may be null.
int vl_backend_refuse(struct vl_backend *backend,
                      uint64_t id,
                      uint16_t code,
                      const char *words);

// Reads no more packets of a client, until vl_backend_unpause.
int vl_backend_pause(struct vl_backend *backend, uint64_t id);

// Goes on after vl_backend_pause.
int vl_backend_unpause(struct vl_backend *backend, uint64_t id);

// Asks a client, or vl_to_everyone, to leave and to come back: it does so at a random time within `within_us` microseconds. One that is still
// there then is closed, and so is one of version 2, which cannot be asked. Its session goes on, and nothing is lost. A link of version 2
// cannot carry it.
int vl_backend_ask_to_leave(struct vl_backend *backend,
                            struct vl_target who,
                            int64_t within_us);

// Notes something of a client, in at most 64 bytes.
int vl_backend_set_note(struct vl_backend *backend, uint64_t id, const char *note);

// Copies the note of a client and a zero to `out`, as much as fits into `room`. Returns its length.
size_t vl_backend_note(const struct vl_backend *backend, uint64_t id, char *out, size_t room);

// Copies the ids of the clients that are there to `ids`, as many as fit into `room`. Returns how many there are.
size_t vl_backend_clients(const struct vl_backend *backend,
                          uint64_t *ids,
                          size_t room);

// Copies the ids of the members of a group to `ids`, as many as fit into `room`. Returns how many there are: 0 for a target that is no group.
size_t vl_backend_members(const struct vl_backend *backend,
                          struct vl_target group,
                          uint64_t *ids,
                          size_t room);

// Tells whether a client that is there has a connection, and what became of its packets so far. Each place may be null. VL_OVER: it is not
// there. Over a link of version 2 it is connected, and nobody tells what arrived at it. Its note: vl_backend_note.
int vl_backend_client(const struct vl_backend *backend,
                      uint64_t id,
                      bool *is_connected,
                      struct vl_ledger *up,
                      struct vl_ledger *down);

// Returns whether an edge is connected.
bool vl_backend_is_connected(const struct vl_backend *backend);

// Returns the maximum length of a packet to a client, in bytes.
size_t vl_backend_max_packet(const struct vl_backend *backend);

// Returns the number up to which every packet to this client is settled: its application came back for more, or the packet was given up. Of
// one of the last 65,536 that have ended it is what the end told. 0 for any other, and over a link of version 2, where nobody tells.
uint64_t vl_backend_acknowledged(const struct vl_backend *backend,
                                 uint64_t id);

// Returns the number of packets that wait to be written.
size_t vl_backend_queued(const struct vl_backend *backend);

// Returns a descriptor for a loop of your own: see vl_client_fd.
int vl_backend_fd(const struct vl_backend *backend);

// Returns the time until vl_backend_poll must be called even if nothing happens, in microseconds. -1: for ever.
int64_t vl_backend_next_us(const struct vl_backend *backend);

// Ends the poll that waits, or the next one, early: it returns 0. It may be called from any thread while the backend is not freed.
void vl_backend_wake(const struct vl_backend *backend);

// Writes what waits, at most for `timeout_us` microseconds, closes the link, and frees the backend. The edge keeps its clients. Null is passed
// over.
int vl_backend_close(struct vl_backend *backend,
                     int64_t timeout_us);

// Frees a backend as if the network had failed. The edge keeps its clients. Null is passed over.
int vl_backend_free(struct vl_backend *backend);

// Makes a client. It never waits for the edge: VL_EVENT_CONNECTED or VL_EVENT_ENDED tells what came of it. A name in the address is looked up
// within vl_client_poll, which blocks for as long as the system takes; an address in numbers is not.
int vl_client_open(const struct vl_client_options *options,
                   struct vl_client **client);

// Does what there is to do, and waits for an event at most `timeout_us` microseconds; for ever if that is negative. Returns 1 for an event, 0
// for none, and a vl_result below 0: VL_OVER if nothing more comes.
//
// All input and output happens here. A packet counts as acknowledged with the next call.
int vl_client_poll(struct vl_client *client,
                   const struct vl_event **event,
                   int64_t timeout_us);

// Sends a packet once, in order, over any number of connections. It leaves with the next poll. `number` gets its number, and may be null.
// VL_NO_ROOM if too much is unacknowledged.
int vl_client_send(struct vl_client *client,
                   const void *data,
                   size_t len,
                   uint64_t *number);

// Sends a packet now or not at all: VL_NO_ROOM if there is no connection, or other packets wait for it.
int vl_client_send_volatile(struct vl_client *client,
                            const void *data,
                            size_t len);

// Returns the number up to which the packets to the edge are acknowledged, after the end with what that told. In version 2: taken by the
// connection.
uint64_t vl_client_acknowledged(const struct vl_client *client);

// Returns the number of packets that are kept: not sent, or not acknowledged.
size_t vl_client_unacknowledged(const struct vl_client *client);

// Sets what the client shows when it joins. In a session it is sent again, at once.
int vl_client_set_token(struct vl_client *client, const void *token, size_t len);

// After an end whose code allows it, forgets the session and begins a new one with the next poll. Otherwise VL_OVER.
int vl_client_start_over(struct vl_client *client);

// Drops the connection as if the network had failed. The client comes back by itself.
int vl_client_drop_connection(struct vl_client *client);

// Returns the id of the session, or 0 before the first.
uint64_t vl_client_id(const struct vl_client *client);

// Returns whether there is a connection on which packets go.
bool vl_client_is_connected(const struct vl_client *client);

// Returns the version of the session: 2 or 3.
uint32_t vl_client_version(const struct vl_client *client);

// Returns the maximum length of a packet to the edge, in bytes.
size_t vl_client_max_packet(const struct vl_client *client);

// Returns the microseconds that a question to the edge and its answer took last. -1: none was asked. An edge is asked when it was silent for
// a while, in version 3.
int64_t vl_client_rtt_us(const struct vl_client *client);

// Gives what became of the packets so far. Either place may be null.
int vl_client_ledgers(const struct vl_client *client, struct vl_ledger *up, struct vl_ledger *down);

// Copies the key that the edge has proven, as 66 hexadecimal digits and a zero, to `out`, as much as fits into `room`. Returns the number of
// digits, or 0 if there is no key.
size_t vl_client_edge_key(const struct vl_client *client,
                          char *out,
                          size_t room);

// Copies a session of version 2 to `out`, as much as fits into `room`, so that another process can resume it. It is a secret. Returns its
// length, 74, or 0 if there is none.
size_t vl_client_saved_session(const struct vl_client *client,
                               uint8_t *out,
                               size_t room);

// Saves up to 64 KiB of the application's own in the session file, in one step with the session. With ack_when_saved, the packets that came
// so far are acknowledged with it, and those that were sent so far leave behind it. VL_IO if the file cannot be written.
int vl_client_save(struct vl_client *client,
                   const void *state,
                   size_t len);

// Copies the application's own state to `out`, as much as fits into `room`: what vl_client_save was given last, by this process or by one before
// it. Returns its length.
size_t vl_client_state(const struct vl_client *client,
                       uint8_t *out,
                       size_t room);

// Returns a descriptor for a loop of your own: when it is readable, or vl_client_next_us is over, call vl_client_poll with a timeout of 0 until
// it returns 0. It belongs to the client. -1 without a client.
int vl_client_fd(const struct vl_client *client);

// Returns the time until vl_client_poll must be called even if nothing happens, in microseconds. -1: for ever.
int64_t vl_client_next_us(const struct vl_client *client);

// Ends the poll that waits, or the next one, early: it returns 0. It may be called from any thread while the client is not freed.
void vl_client_wake(const struct vl_client *client);

// Says goodbye, waits for the edge to answer at most `timeout_us` microseconds, and frees the client. Returns VL_TIMED_OUT if it was not answered
// in time. Null is passed over.
int vl_client_close(struct vl_client *client,
                    int64_t timeout_us);

// Frees a client as if the network had failed: the edge keeps its session for a while. Null is passed over.
int vl_client_free(struct vl_client *client);

// Makes a backend that knows no session yet. `boot` has 32 random bytes, others in each process.
int vl_machine_backend_new(const struct vl_backend_options *options,
                           const uint8_t *boot,
                           struct vl_machine_backend **backend);

// Frees a backend. Null is passed over.
int vl_machine_backend_free(struct vl_machine_backend *backend);

// The edge has connected.
int vl_machine_backend_connected(struct vl_machine_backend *backend, uint64_t now_us);

// The edge's connection is gone.
int vl_machine_backend_closed(struct vl_machine_backend *backend);

// Feeds bytes that were read. Returns 1 for an event, which may point into these bytes, and 0 when all of them are taken. Advances `data` and
// `len`: call it again until it returns 0. VL_PROTOCOL: close the connection.
int vl_machine_backend_feed(struct vl_machine_backend *backend,
                            uint64_t now_us,
                            const uint8_t **data,
                            size_t *len,
                            const struct vl_event **event);

// Returns 1 for an event that no bytes brought, and 0 for none. Call it after each other call, until it returns 0.
int vl_machine_backend_event(struct vl_machine_backend *backend,
                             const struct vl_event **event);

// The application is done with all events that it got: what they told is acknowledged to the edge.
int vl_machine_backend_taken(struct vl_machine_backend *backend, uint64_t now_us);

// Gives the bytes to write now, perhaps none. They are valid until the next call.
int vl_machine_backend_output(struct vl_machine_backend *backend,
                              const uint8_t **data,
                              size_t *len);

// The connection took the first `len` bytes of the output.
int vl_machine_backend_written(struct vl_machine_backend *backend, size_t len);

// Returns whether the connection is to be closed. Then call vl_machine_backend_closed.
bool vl_machine_backend_wants_close(const struct vl_machine_backend *backend);

// Returns when vl_machine_backend_tick must be called, in microseconds. -1: never.
int64_t vl_machine_backend_next_us(const struct vl_machine_backend *backend);

// Tells the time.
int vl_machine_backend_tick(struct vl_machine_backend *backend, uint64_t now_us);

// Queues a packet. `number` gets its number if it is for one client, and may be null.
int vl_machine_backend_send(struct vl_machine_backend *backend,
                            struct vl_target to,
                            const void *data,
                            size_t len,
                            uint64_t *number);

// Queues a packet in place of an older one that waits under the same key.
int vl_machine_backend_send_latest(struct vl_machine_backend *backend,
                                   struct vl_target to,
                                   uint64_t key,
                                   const void *data,
                                   size_t len);

// Queues a packet that the edge delivers now or not at all.
int vl_machine_backend_send_volatile(struct vl_machine_backend *backend,
                                     struct vl_target to,
                                     const void *data,
                                     size_t len);

// Makes a client a member of a group, whose number the application chooses.
int vl_machine_backend_add(struct vl_machine_backend *backend, struct vl_target group, uint64_t id);

// Ends a membership, if there is one.
int vl_machine_backend_remove(struct vl_machine_backend *backend,
                              struct vl_target group,
                              uint64_t id);

// Ends a session with a code (401, 405, or 500 to 699) and a text, which may be null.
int vl_machine_backend_kick(struct vl_machine_backend *backend,
                            uint64_t id,
                            uint16_t code,
                            const char *words);

// Returns the maximum length of a packet to a client, in bytes.
size_t vl_machine_backend_max_packet(const struct vl_machine_backend *backend);

// Returns the number down up to which everything of a client is settled: acknowledged, or given up.
uint64_t vl_machine_backend_settled(const struct vl_machine_backend *backend, uint64_t id);

// Makes a client that wants to connect at once. `seed` has 32 bytes that nobody can know or guess, and that were never used before.
int vl_machine_client_new(const struct vl_client_options *options,
                          const uint8_t *seed,
                          struct vl_machine_client **client);

// Frees a client. Null is passed over.
int vl_machine_client_free(struct vl_machine_client *client);

// Returns whether a connection is to be opened now, unless one is being opened.
bool vl_machine_client_wants_connect(const struct vl_machine_client *client, uint64_t now_us);

// The connection is open. `random` has 32 bytes of the system's randomness, others for each connection: keys are made of them.
int vl_machine_client_connected(struct vl_machine_client *client,
                                uint64_t now_us,
                                const uint8_t *random_bytes);

// The connection could not be opened.
int vl_machine_client_connect_failed(struct vl_machine_client *client, uint64_t now_us);

// The connection is gone. `how` is a vl_closed.
int vl_machine_client_closed(struct vl_machine_client *client, uint64_t now_us, int how);

// Feeds bytes that were read. Returns 1 for an event, which may point into these bytes, and 0 when all of them are taken. Advances `data` and
// `len`: call it again until it returns 0.
int vl_machine_client_feed(struct vl_machine_client *client,
                           uint64_t now_us,
                           const uint8_t **data,
                           size_t *len,
                           const struct vl_event **event);

// Returns 1 for an event that no bytes brought: a drop, or an end. 0: none. Call it after each other call, until it returns 0.
int vl_machine_client_event(struct vl_machine_client *client,
                            const struct vl_event **event);

// Gives the bytes to write now, perhaps none. They are valid until the next call. Call it when the connection can take bytes.
int vl_machine_client_output(struct vl_machine_client *client,
                             const uint8_t **data,
                             size_t *len);

// The connection took the first `len` bytes of the output.
int vl_machine_client_written(struct vl_machine_client *client, uint64_t now_us, size_t len);

// Returns whether the connection is to be closed, or not to be opened any more. Then call vl_machine_client_closed.
bool vl_machine_client_wants_close(const struct vl_machine_client *client);

// Returns when vl_machine_client_tick must be called unless something else happens before, in microseconds. -1: never.
int64_t vl_machine_client_next_us(const struct vl_machine_client *client);

// Tells the time. Once a frame is enough, or when vl_machine_client_next_us has come.
int vl_machine_client_tick(struct vl_machine_client *client, uint64_t now_us);

// Queues a packet. `number` gets its number, and may be null.
int vl_machine_client_send(struct vl_machine_client *client,
                           const void *data,
                           size_t len,
                           uint64_t *number);

// The application is done with the packet of this number, and all before: it is acknowledged.
int vl_machine_client_taken(struct vl_machine_client *client, uint64_t now_us, uint64_t number);

// Returns the number up to which the packets to the edge are acknowledged. In version 2: taken by the connection.
uint64_t vl_machine_client_acknowledged(const struct vl_machine_client *client);

// Says goodbye: sends what waits, and ends the session. VL_EVENT_ENDED follows.
int vl_machine_client_close(struct vl_machine_client *client, uint64_t now_us);

// Drops the connection as if the network had failed.
int vl_machine_client_drop_connection(struct vl_machine_client *client);

// After an end whose code allows it, forgets the session and joins as a new client.
int vl_machine_client_start_over(struct vl_machine_client *client);

// Sets what the client shows when it joins. In a session it is sent again, at once.
int vl_machine_client_set_token(struct vl_machine_client *client, const void *token, size_t len);

// Returns what the client is doing: a vl_state, or 0 without a client.
int vl_machine_client_state(const struct vl_machine_client *client);

// Returns the id of the session, or 0.
uint64_t vl_machine_client_id(const struct vl_machine_client *client);

// Returns the version of the session, or the one that the next session is to have: 2 or 3.
uint32_t vl_machine_client_version(const struct vl_machine_client *client);

// Returns the maximum length of a packet to the edge, in bytes.
size_t vl_machine_client_max_packet(const struct vl_machine_client *client);

// Returns whether there is room for a packet of this length now.
bool vl_machine_client_has_room(const struct vl_machine_client *client, size_t len);

// Returns the number of packets that are kept: not sent, or not acknowledged.
size_t vl_machine_client_unacknowledged(const struct vl_machine_client *client);

// Gives what became of the packets so far. Either place may be null.
int vl_machine_client_ledgers(const struct vl_machine_client *client,
                              struct vl_ledger *up,
                              struct vl_ledger *down);

// Copies the key that the edge has proven, 33 bytes, to `out`, as much as fits into `room`. Returns its length, or 0 if there is none.
size_t vl_machine_client_edge_key(const struct vl_machine_client *client,
                                  uint8_t *out,
                                  size_t room);

// Copies a session of version 2 to `out`, as much as fits into `room`, so that another process can resume it. It is a secret. Returns its
// length, 74, or 0 if there is none.
size_t vl_machine_client_saved_session(const struct vl_machine_client *client,
                                       uint8_t *out,
                                       size_t room);

// Returns what the last failed call of this thread has to say. It is valid until the next one that fails.
const char *vl_last_error(void);

// Returns what a result means. It is valid for ever.
const char *vl_strerror(int result);

// Returns the version of this library.
const char *vl_version(void);

// One client.
struct vl_target vl_to_client(uint64_t id);

// The members of a group that has a number. A machine leaves the choice of numbers to the application, but for the greatest one.
struct vl_target vl_to_group_number(uint64_t group);

// Everyone who is there.
struct vl_target vl_to_everyone(void);

// Leaves up to 16 clients out of a group or of everyone. The ids are used when something is sent.
struct vl_target vl_without(struct vl_target to, const uint64_t *ids, size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VOLTLANE_H */
