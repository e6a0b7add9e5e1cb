/* The machines over sockets of the test's own, against the real edge; and the heap that an idle client takes. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "rig.h"

#define MAX_CLIENTS 200
/* An idle client has this much heap at most. */
static const size_t MAX_IDLE_BYTES = 2048;

typedef struct {
  vl_machine_client *machine;
  int socket;
  bool is_connected;
} client;

/* Fewer under valgrind, where each key takes its time. */
static int many = MAX_CLIENTS;
static struct sockaddr_in edge_at;

static void random_bytes(unsigned char *out) {
  FILE *source = fopen("/dev/urandom", "r");
  CHECK(source != NULL && fread(out, 1, VL_RANDOM_BYTES, source) == VL_RANDOM_BYTES);
  fclose(source);
}

static void client_lose(client *own, int how) {
  close(own->socket);
  own->socket = -1;
  CHECK(vl_machine_client_closed(own->machine, now_us(), how) == VL_OK);
}

/* Everything that a client can do now. Counts the packets that came. */
static void client_turn(client *own, int *packets) {
  unsigned char buffer[4096];
  const vl_event *event;
  CHECK(vl_machine_client_tick(own->machine, now_us()) == VL_OK);
  if (own->socket < 0 && vl_machine_client_wants_connect(own->machine, now_us())) {
    own->socket = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(own->socket >= 0 && connect(own->socket, (struct sockaddr *)&edge_at, sizeof edge_at) == 0);
    CHECK(fcntl(own->socket, F_SETFL, O_NONBLOCK) == 0);
    random_bytes(buffer);
    CHECK(vl_machine_client_connected(own->machine, now_us(), buffer) == VL_OK);
  }
  const uint8_t *data;
  size_t len;
  while (own->socket >= 0) {
    CHECK(vl_machine_client_output(own->machine, &data, &len) == VL_OK);
    ssize_t sent = len > 0 ? send(own->socket, data, len, MSG_NOSIGNAL) : 0;
    if (sent > 0) CHECK(vl_machine_client_written(own->machine, now_us(), (size_t)sent) == VL_OK);
    ssize_t come = recv(own->socket, buffer, sizeof buffer, 0);
    if (come == 0) {
      client_lose(own, VL_CLOSED_EOF);
    } else if (come > 0) {
      data = buffer;
      len = (size_t)come;
      int got;
      while ((got = vl_machine_client_feed(own->machine, now_us(), &data, &len, &event)) == 1) {
        if (event->type == VL_EVENT_CONNECTED || event->type == VL_EVENT_RESUMED) own->is_connected = true;
        if (event->type != VL_EVENT_PACKET) continue;
        CHECK(event->len == 5 && memcmp(event->data, "hello", 5) == 0);
        *packets += 1;
        CHECK(vl_machine_client_taken(own->machine, now_us(), event->number) == VL_OK);
      }
      CHECK(got == 0 && len == 0);
    }
    if (own->socket >= 0 && vl_machine_client_wants_close(own->machine)) client_lose(own, VL_CLOSED_ERROR);
    if (sent <= 0 && come <= 0) break;
  }
  while (vl_machine_client_event(own->machine, &event) == 1) {
    if (event->type == VL_EVENT_DROPPED) own->is_connected = false;
  }
}

typedef struct {
  vl_machine_backend *machine;
  int listener, socket;
  int joined, packets;
} backend;

static void backend_turn(backend *own) {
  unsigned char buffer[16384];
  const vl_event *event;
  CHECK(vl_machine_backend_tick(own->machine, now_us()) == VL_OK);
  if (own->socket < 0 && (own->socket = accept(own->listener, NULL, NULL)) >= 0) {
    CHECK(fcntl(own->socket, F_SETFL, O_NONBLOCK) == 0);
    CHECK(vl_machine_backend_connected(own->machine, now_us()) == VL_OK);
  }
  while (own->socket >= 0) {
    const uint8_t *data;
    size_t len;
    CHECK(vl_machine_backend_output(own->machine, &data, &len) == VL_OK);
    ssize_t sent = len > 0 ? send(own->socket, data, len, MSG_NOSIGNAL) : 0;
    if (sent > 0) CHECK(vl_machine_backend_written(own->machine, (size_t)sent) == VL_OK);
    ssize_t come = recv(own->socket, buffer, sizeof buffer, 0);
    CHECK(come != 0);
    if (come > 0) {
      data = buffer;
      len = (size_t)come;
      int got;
      while ((got = vl_machine_backend_feed(own->machine, now_us(), &data, &len, &event)) == 1) {
        if (event->type == VL_EVENT_JOINED) own->joined++;
        if (event->type == VL_EVENT_PACKET) {
          own->packets++;
          CHECK(vl_machine_backend_send(own->machine, vl_to_client(event->id), event->data, event->len, NULL) == VL_OK);
        }
      }
      CHECK(got == 0 && len == 0);
      while (vl_machine_backend_event(own->machine, &event) == 1) {
      }
      CHECK(vl_machine_backend_taken(own->machine, now_us()) == VL_OK);
    }
    if (sent <= 0 && come <= 0) break;
  }
}

static void play(uint32_t of_client, uint32_t of_link) {
  backend serving = {.socket = -1};
  unsigned char seed[VL_RANDOM_BYTES];
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  serving.listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(serving.listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(serving.listener, 8) == 0);
  CHECK(getsockname(serving.listener, (struct sockaddr *)&at, &length) == 0);
  CHECK(fcntl(serving.listener, F_SETFL, O_NONBLOCK) == 0);
  vl_backend_options as = VL_BACKEND_OPTIONS;
  as.version = of_link;
  random_bytes(seed);
  CHECK(vl_machine_backend_new(&as, seed, &serving.machine) == VL_OK);
  char text[32];
  snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(at.sin_port));
  edge served = edge_start(text, GRANTS);
  int port;
  CHECK(sscanf(served.address, "127.0.0.1:%d", &port) == 1);
  edge_at = at;
  edge_at.sin_port = htons((uint16_t)port);

  static client clients[MAX_CLIENTS];
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.version = of_client;
  size_t before = mallinfo2().uordblks;
  int connected = 0, packets = 0;
  for (int who = 0; who < many; who++) {
    random_bytes(seed);
    clients[who] = (client){.socket = -1};
    CHECK(vl_machine_client_new(&to, seed, &clients[who].machine) == VL_OK);
  }
  uint64_t until = now_us() + PATIENCE_US;
  while (connected < many) {
    CHECK(now_us() < until);
    connected = 0;
    for (int who = 0; who < many; who++) {
      client_turn(&clients[who], &packets);
      connected += clients[who].is_connected;
    }
    backend_turn(&serving);
  }
  size_t idle = (mallinfo2().uordblks - before) / (size_t)many;
  for (int round = 0; round < 2; round++) {
    /* In the second round over new connections. */
    if (round == 1)
      for (int who = 0; who < many; who += 10) {
        CHECK(vl_machine_client_drop_connection(clients[who].machine) == VL_OK);
        client_lose(&clients[who], VL_CLOSED_ERROR);
      }
    for (int who = 0; who < many; who++)
      CHECK(vl_machine_client_send(clients[who].machine, "hello", 5, NULL) == VL_OK);
    packets = 0;
    while (packets < many) {
      CHECK(now_us() < until);
      for (int who = 0; who < many; who++) client_turn(&clients[who], &packets);
      backend_turn(&serving);
    }
    CHECK(packets == many);
  }
  /* Over a link of version 2 a client joins with its first packet. */
  CHECK(serving.packets == 2 * many && serving.joined == many);
  printf("client %u, link %u: %zu bytes of heap for an idle client\n", of_client, of_link, idle);
  /* With version 3 of the link, the backend in this process has memory for each session as well. */
  if (getenv("NO_HEAP") == NULL && of_link == 2) CHECK(idle > 0 && idle <= MAX_IDLE_BYTES);
  for (int who = 0; who < many; who++) {
    close(clients[who].socket);
    CHECK(vl_machine_client_free(clients[who].machine) == VL_OK);
  }
  edge_stop(&served);
  close(serving.socket);
  close(serving.listener);
  CHECK(vl_machine_backend_free(serving.machine) == VL_OK);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (getenv("SHORT") != NULL) many = 10;
  for (uint32_t of_client = 2; of_client <= 3; of_client++)
    for (uint32_t of_link = 2; of_link <= 3; of_link++) play(of_client, of_link);
  return 0;
}
