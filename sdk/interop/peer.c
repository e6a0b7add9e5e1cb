/* A client or a backend of the library for C, which does what the lines on its standard input say and tells what happens, as README.md
 * describes: peer client|backend ADDRESS VERSION */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../c/include/voltlane.h"

static vl_client *client;
static vl_backend *backend;

/* CRC-32, as of zlib. */
static uint32_t crc(const uint8_t *data, size_t len) {
  uint32_t sum = 0xFFFFFFFF;
  for (size_t at = 0; at < len; at++) {
    sum ^= data[at];
    for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (0xEDB88320 & (0 - (sum & 1)));
  }
  return ~sum;
}

/* The bytes that a length and a seed stand for. */
static const uint8_t *packet(unsigned length, unsigned seed) {
  static uint8_t bytes[1 << 20];
  for (unsigned at = 0; at < length && at < sizeof bytes; at++) bytes[at] = (uint8_t)((at * 7 >> 3) + seed);
  return bytes;
}

static void obey(const char *line) {
  uint64_t id;
  unsigned length, seed, code;
  char text[100];
  int result = VL_ARGUMENT;
  if (client != NULL && sscanf(line, "send %u %u", &length, &seed) == 2) {
    result = vl_client_send(client, packet(length, seed), length, NULL);
  } else if (client != NULL && strcmp(line, "close") == 0) {
    result = vl_client_close(client, 10000000);
    client = NULL;
    if (result == VL_OK) printf("closed 0\n");
  } else if (backend != NULL && sscanf(line, "send %" SCNx64 " %u %u", &id, &length, &seed) == 3) {
    result = vl_backend_send(backend, vl_to_client(id), packet(length, seed), length, NULL);
  } else if (backend != NULL && sscanf(line, "all %u %u", &length, &seed) == 2) {
    result = vl_backend_send(backend, vl_to_everyone(), packet(length, seed), length, NULL);
  } else if (backend != NULL && sscanf(line, "kick %" SCNx64 " %u %99s", &id, &code, text) == 3) {
    result = vl_backend_kick(backend, id, (uint16_t)code, text);
  }
  if (result != VL_OK) printf("fault %s: %s\n", line, vl_last_error());
}

static void tell(const vl_event *event) {
  char of[20] = "";
  if (backend != NULL) snprintf(of, sizeof of, " %016" PRIx64, event->id);
  switch (event->type) {
    case VL_EVENT_CONNECTED: printf("connected %016" PRIx64 "\n", event->id); break;
    case VL_EVENT_PACKET: printf("packet%s %zu %08" PRIx32 "\n", of, event->len, crc(event->data, event->len)); break;
    case VL_EVENT_DROPPED: printf("dropped\n"); break;
    case VL_EVENT_RESUMED: printf("resumed%s\n", of); break;
    case VL_EVENT_ENDED: printf("ended%s %d %s\n", of, event->code, backend != NULL ? "" : event->text); break;
    case VL_EVENT_JOINED: printf("joined%s\n", of); break;
    case VL_EVENT_AWAY: printf("away%s\n", of); break;
    case VL_EVENT_EDGE_CONNECTED: printf("edge\n"); break;
    case VL_EVENT_EDGE_LOST: printf("edge-lost\n"); break;
    default: break;
  }
}

/* Tells everything that has happened. Returns how long the next poll may wait, in ms, and its descriptor. */
static int look(struct pollfd *at) {
  const vl_event *event;
  if (client == NULL && backend == NULL) return at->fd = -1;
  while ((client != NULL ? vl_client_poll(client, &event, 0) : vl_backend_poll(backend, &event, 0)) == 1) tell(event);
  at->fd = client != NULL ? vl_client_fd(client) : vl_backend_fd(backend);
  int64_t next = client != NULL ? vl_client_next_us(client) : vl_backend_next_us(backend);
  return next < 0 ? -1 : (int)(next / 1000) + 1;
}

int main(int count, char **words) {
  static char line[256];
  size_t length = 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count != 4) return 2;
  if (strcmp(words[1], "client") == 0) {
    vl_client_options options = VL_CLIENT_OPTIONS;
    options.address = words[2];
    options.version = (uint32_t)atoi(words[3]);
    if (strncmp(words[2], "tls:", 4) == 0 || strncmp(words[2], "wss:", 4) == 0) options.authority_file = getenv("INTEROP_AUTHORITY");
    if (vl_client_open(&options, &client) != VL_OK) printf("fault %s\n", vl_last_error());
  } else {
    vl_backend_options options = VL_BACKEND_OPTIONS;
    char address[100];
    options.address = words[2];
    options.version = (uint32_t)atoi(words[3]);
    if (vl_backend_open(&options, &backend) != VL_OK) printf("fault %s\n", vl_last_error());
    vl_backend_address(backend, address, sizeof address);
    printf("listening %s\n", address);
  }
  struct pollfd at[2] = {{.fd = 0, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
  for (;;) {
    int timeout = look(&at[1]);
    if (poll(at, 2, timeout) < 0) return 1;
    if (at[0].revents == 0) continue;
    ssize_t got = read(0, line + length, sizeof line - length);
    if (got <= 0) break;
    length += (size_t)got;
    for (char *end; (end = memchr(line, '\n', length)) != NULL;) {
      *end = 0;
      obey(line);
      length -= (size_t)(end + 1 - line);
      memmove(line, end + 1, length);
    }
  }
  vl_client_free(client);
  vl_backend_free(backend);
  return 0;
}
