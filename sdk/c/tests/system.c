/* Clients and a backend with their own sockets, against the real edge: every version of both links. */
#include <poll.h>
#include <pthread.h>

#include "rig.h"

/* An event that came while another one was waited for. */
typedef struct {
  vl_event_type type;
  uint64_t id;
  uint16_t code;
  uint64_t number, count;
  char text[128];
  unsigned char data[64];
  size_t len;
} seen;

#define MAX_KEPT 64

typedef struct {
  vl_backend *backend;
  vl_client *clients[2];
  /* What came of each client, and last of the backend, and was not asked for yet. */
  seen kept[3][MAX_KEPT];
  int count[3];
  /* What came last. */
  seen last;
} world;

/* Polls one side, and keeps what comes. -1 is the backend. */
static void look(world *in, int who, int64_t timeout_us) {
  const vl_event *event;
  int at = who < 0 ? 2 : who;
  if (who >= 0 && in->clients[who] == NULL) return;
  int got = who < 0 ? vl_backend_poll(in->backend, &event, timeout_us) : vl_client_poll(in->clients[who], &event, timeout_us);
  if (got == VL_OVER) return;
  CHECK(got >= 0);
  if (got == 0) return;
  CHECK(in->count[at] < MAX_KEPT);
  seen *one = &in->kept[at][in->count[at]++];
  *one = (seen){.type = event->type, .id = event->id, .code = event->code, .len = event->len};
  one->number = event->number;
  one->count = event->count;
  CHECK(event->len <= sizeof one->data);
  memcpy(one->data, event->data, event->len);
  snprintf(one->text, sizeof one->text, "%s", event->text);
}

/* Takes the oldest event of one side, if there is one. */
static bool take(world *in, int who) {
  int at = who < 0 ? 2 : who;
  if (in->count[at] == 0) return false;
  in->last = in->kept[at][0];
  memmove(&in->kept[at][0], &in->kept[at][1], (size_t)--in->count[at] * sizeof(seen));
  return true;
}

/* Polls all sides until there is an event of this type at one of them. Other events there are passed over. */
static void await(world *in, int who, vl_event_type type) {
  for (uint64_t until = now_us() + PATIENCE_US; now_us() < until;) {
    while (take(in, who))
      if (in->last.type == type) return;
    look(in, who, 1000);
    for (int other = -1; other < 2; other++)
      if (other != who) look(in, other, 0);
  }
  fprintf(stderr, "%d waited for %d, after %d\n", who, type, in->last.type);
  abort();
}

static void check_packet(world *in, int who, const char *text) {
  await(in, who, VL_EVENT_PACKET);
  CHECK(in->last.len == strlen(text) && memcmp(in->last.data, text, in->last.len) == 0);
}

static void *wake_soon(void *client) {
  vl_client_wake(client);
  return NULL;
}

static void play(uint32_t of_client, uint32_t of_link) {
  static world in;
  memset(&in, 0, sizeof in);
  vl_backend_options at = VL_BACKEND_OPTIONS;
  at.address = "127.0.0.1:0";
  at.version = of_link;
  char address[64];
  CHECK(vl_backend_open(&at, &in.backend) == VL_OK);
  CHECK(vl_backend_address(in.backend, address, sizeof address) > 0);
  edge served = edge_start(address, GRANTS);
  await(&in, -1, VL_EVENT_EDGE_CONNECTED);
  CHECK(vl_backend_is_connected(in.backend));

  uint64_t ids[2];
  for (int who = 0; who < 2; who++) {
    vl_client_options to = VL_CLIENT_OPTIONS;
    to.address = served.address;
    to.version = of_client;
    CHECK(vl_client_open(&to, &in.clients[who]) == VL_OK);
    CHECK(vl_client_id(in.clients[who]) == 0 && !vl_client_is_connected(in.clients[who]));
    await(&in, who, VL_EVENT_CONNECTED);
    ids[who] = in.last.id;
    CHECK(vl_client_id(in.clients[who]) == ids[who] && vl_client_version(in.clients[who]) == of_client);
    CHECK(vl_client_send(in.clients[who], "hello", 5, NULL) == VL_OK);
    check_packet(&in, -1, "hello");
    CHECK(in.last.id == ids[who]);
  }
  uint64_t there[4];
  CHECK(vl_backend_clients(in.backend, there, 4) == 2);

  /* Packets of all lengths, there and back. */
  static unsigned char big[1 << 20];
  for (size_t at_byte = 0; at_byte < sizeof big; at_byte++) big[at_byte] = (unsigned char)(at_byte * 7 >> 3);
  size_t lengths[] = {0, 1, 100, 65536, sizeof big};
  for (size_t one = 0; one < sizeof lengths / sizeof *lengths; one++) {
    size_t length = lengths[one];
    uint64_t number = 0;
    CHECK(vl_client_send(in.clients[0], big, length, &number) == VL_OK && number == one + 2);
    uint64_t until = now_us() + PATIENCE_US;
    const vl_event *event;
    for (bool has_come = false; !has_come;) {
      CHECK(now_us() < until);
      int got = vl_client_poll(in.clients[0], &event, 0);
      CHECK(got == 0 || (got == 1 && event->type != VL_EVENT_PACKET));
      CHECK((got = vl_backend_poll(in.backend, &event, 1000)) >= 0);
      if (got == 1 && event->type == VL_EVENT_PACKET) {
        CHECK(event->id == ids[0] && event->len == length && memcmp(event->data, big, length) == 0);
        has_come = true;
      }
    }
    CHECK(vl_backend_send(in.backend, vl_to_client(ids[0]), big, length, &number) == VL_OK && number == one + 1);
    for (bool has_come = false; !has_come;) {
      CHECK(now_us() < until && vl_backend_poll(in.backend, &event, 0) == 0);
      int got = vl_client_poll(in.clients[0], &event, 1000);
      if (got == 1 && event->type == VL_EVENT_PACKET) {
        CHECK(event->len == length && memcmp(event->data, big, length) == 0);
        has_come = true;
      }
    }
  }
  /* Its application has come back for more behind the last of them. Over a link of version 2 nobody tells. */
  uint64_t settled = of_link == 3 ? sizeof lengths / sizeof *lengths : 0;
  for (uint64_t until = now_us() + PATIENCE_US; vl_backend_acknowledged(in.backend, ids[0]) < settled;) {
    CHECK(now_us() < until);
    for (int who = -1; who < 2; who++) look(&in, who, 1000);
  }
  CHECK(vl_backend_acknowledged(in.backend, ids[0]) == settled);
  /* They have come back, so the connection had taken them. */
  CHECK(of_client == 3 || vl_client_acknowledged(in.clients[0]) == 6);
  CHECK(vl_client_send(in.clients[0], big, vl_client_max_packet(in.clients[0]) + 1, NULL) != VL_OK);

  /* A drop loses nothing of what was sent meanwhile. */
  CHECK(vl_client_drop_connection(in.clients[0]) == VL_OK);
  CHECK(vl_client_send(in.clients[0], "while away", 10, NULL) == VL_OK);
  CHECK(vl_backend_send(in.backend, vl_to_client(ids[0]), "for you", 7, NULL) == VL_OK);
  await(&in, 0, VL_EVENT_DROPPED);
  CHECK(strlen(in.last.text) > 0);
  await(&in, 0, VL_EVENT_RESUMED);
  CHECK(in.last.id == ids[0]);
  check_packet(&in, 0, "for you");
  check_packet(&in, -1, "while away");

  /* To many: to all, to all but one, to a group. */
  CHECK(vl_backend_send(in.backend, vl_to_everyone(), "all", 3, NULL) == VL_OK);
  CHECK(vl_backend_send(in.backend, vl_without(vl_to_everyone(), &ids[0], 1), "second", 6, NULL) == VL_OK);
  vl_target red = vl_to_group(in.backend, "red");
  CHECK(vl_backend_add(in.backend, red, ids[0]) == VL_OK);
  CHECK(vl_backend_members(in.backend, red, there, 0) == 1 && vl_backend_members(in.backend, red, there, 4) == 1);
  CHECK(there[0] == ids[0] && vl_backend_members(in.backend, vl_to_group(in.backend, "blue"), there, 4) == 0);
  CHECK(vl_backend_send(in.backend, red, "red", 3, NULL) == VL_OK);
  CHECK(vl_backend_remove(in.backend, red, ids[0]) == VL_OK && vl_backend_members(in.backend, red, NULL, 0) == 0);
  CHECK(vl_backend_send(in.backend, red, "nobody", 6, NULL) == VL_OK);
  CHECK(vl_backend_send_latest(in.backend, vl_to_client(ids[1]), 7, "newest", 6) == VL_OK);
  CHECK(vl_backend_send_volatile(in.backend, vl_to_everyone(), "now", 3) == VL_OK);
  check_packet(&in, 0, "all");
  check_packet(&in, 0, "red");
  check_packet(&in, 0, "now");
  check_packet(&in, 1, "all");
  check_packet(&in, 1, "second");
  check_packet(&in, 1, "newest");
  CHECK(vl_backend_set_note(in.backend, ids[0], "user 17") == VL_OK);
  char kept[16];
  CHECK(vl_backend_note(in.backend, ids[0], kept, sizeof kept) == 7 && strcmp(kept, "user 17") == 0);

  bool is_there = false;
  vl_ledger from_it, to_it;
  CHECK(vl_backend_client(in.backend, ids[0], &is_there, &from_it, &to_it) == VL_OK && is_there);
  CHECK(from_it.numbered == 7 && to_it.numbered >= 8);
  CHECK(vl_backend_client(in.backend, 7, &is_there, NULL, NULL) == VL_OVER);

  /* Another thread ends a wait. */
  pthread_t thread;
  const vl_event *event;
  CHECK(pthread_create(&thread, NULL, wake_soon, in.clients[0]) == 0);
  int got;
  while ((got = vl_client_poll(in.clients[0], &event, -1)) == 1) {
  }
  CHECK(got == 0 && pthread_join(thread, NULL) == 0);

  /* A loop of one's own waits for the descriptor. */
  CHECK(vl_backend_send(in.backend, vl_to_client(ids[0]), "fd", 2, NULL) == VL_OK);
  look(&in, -1, 0);
  for (;;) {
    struct pollfd descriptor = {.fd = vl_client_fd(in.clients[0]), .events = POLLIN};
    int64_t next = vl_client_next_us(in.clients[0]);
    CHECK(poll(&descriptor, 1, next < 0 ? 60000 : (int)(next / 1000) + 1) >= 0);
    if ((got = vl_client_poll(in.clients[0], &event, 0)) == 1 && event->type == VL_EVENT_PACKET) break;
    CHECK(got >= 0);
  }
  CHECK(event->len == 2 && memcmp(event->data, "fd", 2) == 0);

  /* A kick. Only version 3 of both links carries the code to the client. */
  CHECK(vl_backend_kick(in.backend, ids[1], 600, "not a position") == VL_OK);
  await(&in, -1, VL_EVENT_ENDED);
  CHECK(in.last.id == ids[1] && in.last.code == 600);
  if (of_client == 3) {
    await(&in, 1, VL_EVENT_ENDED);
    if (in.last.code != (of_link == 3 ? 600 : 401)) fprintf(stderr, "%d %s\n", in.last.code, in.last.text);
    CHECK(in.last.code == (of_link == 3 ? 600 : 401));
    if (of_link == 3) CHECK(strcmp(in.last.text, "not a position") == 0);
    CHECK(vl_client_poll(in.clients[1], &event, 0) == VL_OVER);
    CHECK(vl_client_send(in.clients[1], "x", 1, NULL) == VL_OVER);
  }
  CHECK(vl_client_free(in.clients[1]) == VL_OK);
  in.clients[1] = NULL;

  /* A saved session goes on in another client. */
  if (of_client == 2) {
    unsigned char saved[128];
    vl_client_options to = VL_CLIENT_OPTIONS;
    to.address = served.address;
    to.version = 2;
    to.saved = saved;
    to.saved_len = vl_client_saved_session(in.clients[0], saved, sizeof saved);
    CHECK(to.saved_len == 74);
    CHECK(vl_client_free(in.clients[0]) == VL_OK && vl_client_open(&to, &in.clients[0]) == VL_OK);
    await(&in, 0, VL_EVENT_RESUMED);
    CHECK(in.last.id == ids[0]);
  } else {
    vl_ledger up, down;
    CHECK(vl_client_ledgers(in.clients[0], &up, &down) == VL_OK);
    CHECK(up.numbered == 7 && up.numbered == up.acknowledged + up.open_sent + up.open_unsent);
    char key[67];
    CHECK(vl_client_edge_key(in.clients[0], key, sizeof key) == 66 && strlen(key) == 66);
  }
  CHECK(vl_client_close(in.clients[0], PATIENCE_US) == VL_OK);
  CHECK(vl_backend_close(in.backend, PATIENCE_US) == VL_OK);
  edge_stop(&served);
  printf("client %u, link %u\n", of_client, of_link);
}

/* A client is asked to leave, and a backend that was killed goes on where it was. */
static void goes_on(void) {
  static world in;
  memset(&in, 0, sizeof in);
  vl_backend_options at = VL_BACKEND_OPTIONS;
  char place[64];
  snprintf(place, sizeof place, "unix:/tmp/voltlane-c-%d.sock", (int)getpid());
  at.address = place;
  at.version = 3;
  CHECK(vl_backend_open(&at, &in.backend) == VL_OK);
  edge served = edge_start(place, GRANTS);
  await(&in, -1, VL_EVENT_EDGE_CONNECTED);
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.address = served.address;
  to.version = 3;
  CHECK(vl_client_open(&to, &in.clients[0]) == VL_OK);
  await(&in, -1, VL_EVENT_JOINED);
  uint64_t id = in.last.id;
  CHECK(in.last.count == 0);
  vl_target both[] = {vl_to_client(id), vl_to_everyone()};
  for (int whom = 0; whom < 2; whom++) {
    CHECK(vl_backend_ask_to_leave(in.backend, both[whom], 0) == VL_OK);
    await(&in, -1, VL_EVENT_RESUMED);
    CHECK(in.last.id == id);
  }
  CHECK(vl_backend_send(in.backend, vl_to_client(id), "down", 4, NULL) == VL_OK);
  check_packet(&in, 0, "down");
  CHECK(vl_client_send(in.clients[0], "1", 1, NULL) == VL_OK && vl_client_send(in.clients[0], "2", 1, NULL) == VL_OK);
  check_packet(&in, -1, "1");
  vl_restored saved[] = {{.id = id, .number = in.last.number}, {.id = 7, .number = 5}};
  CHECK(saved[0].number == 1);
  CHECK(vl_backend_free(in.backend) == VL_OK);
  in.count[2] = 0;
  at.restored_len = 2;
  CHECK(vl_backend_open(&at, &in.backend) == VL_ARGUMENT);
  at.restored = saved;
  CHECK(vl_backend_open(&at, &in.backend) == VL_OK);
  await(&in, -1, VL_EVENT_JOINED);
  CHECK(in.last.id == id && in.last.count == 1);
  await(&in, -1, VL_EVENT_ENDED);
  CHECK(in.last.id == 7);
  check_packet(&in, -1, "2");
  CHECK(in.last.number == 2);
  CHECK(vl_client_close(in.clients[0], PATIENCE_US) == VL_OK);
  in.clients[0] = NULL;
  await(&in, -1, VL_EVENT_ENDED);
  CHECK(in.last.id == id);
  CHECK(vl_backend_close(in.backend, PATIENCE_US) == VL_OK);
  edge_stop(&served);
  printf("goes on\n");
}

/* What was acknowledged right before the end counts: neither end waits until it tells the other. */
static void ends(uint32_t of_link) {
  static world in;
  memset(&in, 0, sizeof in);
  vl_backend_options at = VL_BACKEND_OPTIONS;
  at.address = "127.0.0.1:0";
  at.version = of_link;
  char address[64];
  CHECK(vl_backend_open(&at, &in.backend) == VL_OK && vl_backend_address(in.backend, address, sizeof address) > 0);
  edge served = edge_start(address, GRANTS);
  await(&in, -1, VL_EVENT_EDGE_CONNECTED);
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.address = served.address;
  to.version = 3;
  CHECK(vl_client_open(&to, &in.clients[0]) == VL_OK);
  CHECK(vl_client_send(in.clients[0], "1", 1, NULL) == VL_OK);
  check_packet(&in, -1, "1");
  uint64_t id = in.last.id;
  if (of_link == 3) {
    CHECK(vl_backend_send(in.backend, vl_to_client(id), "down", 4, NULL) == VL_OK);
    check_packet(&in, 0, "down");
    /* Its poll says that it is done with the packet. */
    look(&in, 0, 0);
    CHECK(vl_client_send(in.clients[0], "2", 1, NULL) == VL_OK);
    check_packet(&in, -1, "2");
  }
  CHECK(vl_backend_kick(in.backend, id, 600, NULL) == VL_OK);
  if (of_link == 3) {
    await(&in, -1, VL_EVENT_ENDED);
    CHECK(in.last.id == id && vl_backend_acknowledged(in.backend, id) == 1);
    CHECK(vl_backend_client(in.backend, id, NULL, NULL, NULL) == VL_OVER);
  }
  await(&in, 0, VL_EVENT_ENDED);
  vl_ledger up;
  CHECK(vl_client_ledgers(in.clients[0], &up, NULL) == VL_OK);
  CHECK(vl_client_acknowledged(in.clients[0]) == up.acknowledged);
  /* Over a link of version 3 the end may come before the edge knows what the backend has taken. */
  CHECK(of_link == 3 || up.acknowledged == 1);
  CHECK(vl_client_free(in.clients[0]) == VL_OK && vl_backend_free(in.backend) == VL_OK);
  edge_stop(&served);
  printf("ends, link %u\n", of_link);
}

/* Who takes less than it is sent loses packets, if the backend says so, and goes on. */
static void overflows(void) {
  vl_backend_options at = VL_BACKEND_OPTIONS;
  at.address = "127.0.0.1:0";
  at.version = 3;
  at.overflow = VL_OVERFLOW_GAP;
  vl_backend *behind;
  char address[64];
  CHECK(vl_backend_open(&at, &behind) == VL_OK && vl_backend_address(behind, address, sizeof address) > 0);
  edge served = edge_start(address, GRANTS "clients.missed_packets_buffer_size = 100\n");
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.address = served.address;
  to.version = 3;
  vl_client *own;
  CHECK(vl_client_open(&to, &own) == VL_OK);
  const vl_event *event;
  uint64_t id = 0, until = now_us() + PATIENCE_US;
  while (id == 0) {
    CHECK(now_us() < until && vl_client_poll(own, &event, 1000) >= 0);
    if (vl_backend_poll(behind, &event, 0) == 1 && event->type == VL_EVENT_JOINED) id = event->id;
  }
  /* The client is not polled. */
  static unsigned char big[100000];
  for (vl_event_type came = VL_EVENT_JOINED; came != VL_EVENT_GAP;) {
    CHECK(now_us() < until);
    int sent = vl_backend_send(behind, vl_to_client(id), big, sizeof big, NULL);
    CHECK(sent == VL_OK || sent == VL_NO_ROOM);
    int got = vl_backend_poll(behind, &event, 1000);
    CHECK(got == 0 || (got == 1 && event->type != VL_EVENT_ENDED));
    if (got == 1) came = event->type;
  }
  CHECK(event->id == id && !event->is_up && event->count > 0);
  CHECK(vl_client_free(own) == VL_OK && vl_backend_free(behind) == VL_OK);
  edge_stop(&served);
  printf("overflows\n");
}

/* Who may come in, over a Unix socket. */
static void verify(void) {
  static world in;
  memset(&in, 0, sizeof in);
  vl_backend_options at = VL_BACKEND_OPTIONS;
  char place[64];
  snprintf(place, sizeof place, "unix:/tmp/voltlane-c-%d.sock", (int)getpid());
  at.address = place;
  at.version = 3;
  at.verify = true;
  CHECK(vl_backend_open(&at, &in.backend) == VL_OK);
  edge served = edge_start(place, GRANTS);
  await(&in, -1, VL_EVENT_EDGE_CONNECTED);
  const char *tokens[] = {"ticket 7", "a forgery"};
  for (int who = 0; who < 2; who++) {
    vl_client_options to = VL_CLIENT_OPTIONS;
    to.address = served.address;
    to.token = tokens[who];
    to.token_len = strlen(tokens[who]);
    CHECK(vl_client_open(&to, &in.clients[who]) == VL_CONFIG);
    CHECK(strstr(vl_last_error(), "token") != NULL && in.clients[who] == NULL);
    to.trust_first_use = true;
    CHECK(vl_client_open(&to, &in.clients[who]) == VL_OK);
    await(&in, who, VL_EVENT_CONNECTED);
    await(&in, -1, VL_EVENT_VERIFY);
    CHECK(in.last.len == to.token_len && memcmp(in.last.data, tokens[who], in.last.len) == 0);
    if (who == 0) {
      CHECK(vl_backend_admit(in.backend, in.last.id, "user 7") == VL_OK);
      await(&in, -1, VL_EVENT_JOINED);
    } else {
      CHECK(vl_backend_refuse(in.backend, in.last.id, 605, "log in first") == VL_OK);
      await(&in, who, VL_EVENT_ENDED);
      CHECK(in.last.code == 605 && strcmp(in.last.text, "log in first") == 0);
    }
  }
  for (int who = 0; who < 2; who++) CHECK(vl_client_free(in.clients[who]) == VL_OK);
  CHECK(vl_backend_free(in.backend) == VL_OK);
  edge_stop(&served);
  printf("verify\n");
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (uint32_t of_client = 2; of_client <= 3; of_client++)
    for (uint32_t of_link = 2; of_link <= 3; of_link++) play(of_client, of_link);
  goes_on();
  for (uint32_t of_link = 2; of_link <= 3; of_link++) ends(of_link);
  overflows();
  verify();
  return 0;
}
