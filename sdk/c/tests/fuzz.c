/* Calls in any order with any bytes: nothing may end in VL_PANIC. FUZZ_SEED begins elsewhere. */
#include "rig.h"

static uint64_t state;

static uint64_t draw(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return below == 0 ? 0 : state % below;
}

static int look(int result) {
  if (result == VL_PANIC) fprintf(stderr, "%s\n", vl_last_error());
  CHECK(result != VL_PANIC);
  return result;
}

/* Output of one machine is the best input of another, with a bit changed now and then. */
static unsigned char pool[1 << 16];
static size_t pool_len;

static void keep(const uint8_t *data, size_t len) {
  if (len > sizeof pool) len = sizeof pool;
  if (len > 0) memcpy(pool, data, len);
  pool_len = len;
}

static size_t take(unsigned char *out, size_t room) {
  size_t len = draw(2) ? draw(room) : pool_len;
  for (size_t at = 0; at < len; at++) out[at] = draw(2) && at < pool_len ? pool[at] : (unsigned char)draw(4 + 252 * draw(2));
  if (len == pool_len && draw(3)) memcpy(out, pool, len);
  if (len > 0 && draw(3) == 0) out[draw(len)] ^= (unsigned char)(1 << draw(8));
  return len;
}

static void one(void) {
  vl_machine_client *client;
  vl_machine_backend *backend;
  vl_client_options to = VL_CLIENT_OPTIONS;
  vl_backend_options at = VL_BACKEND_OPTIONS;
  unsigned char seed[VL_RANDOM_BYTES];
  static unsigned char bytes[1 << 16];
  for (size_t n = 0; n < sizeof seed; n++) seed[n] = (unsigned char)draw(256);
  to.version = draw(2) ? 0 : 2 + (uint32_t)draw(2);
  to.queue_packets = (uint32_t)draw(4);
  to.max_receive_bytes = (uint32_t)draw(3) * 100;
  at.version = 2 + (uint32_t)draw(2);
  CHECK(vl_machine_client_new(&to, seed, &client) == VL_OK);
  CHECK(vl_machine_backend_new(&at, seed, &backend) == VL_OK);
  uint64_t now = 0;
  for (int step = 0; step < 300; step++) {
    const uint8_t *data;
    size_t len;
    const vl_event *event;
    now += draw(2) * draw(10000000);
    switch (draw(22)) {
    case 0: look(vl_machine_client_connected(client, now, seed)); break;
    case 1: look(vl_machine_client_closed(client, now, (int)draw(3))); break;
    case 2: look(vl_machine_client_tick(client, now)); break;
    case 3: look(vl_machine_client_connect_failed(client, now)); break;
    case 4: look(vl_machine_client_send(client, bytes, draw(sizeof bytes), NULL)); break;
    case 5: look(vl_machine_client_taken(client, now, draw(10))); break;
    case 6: if (draw(20) == 0) look(vl_machine_client_close(client, now)); break;
    case 7: look(vl_machine_client_start_over(client)); break;
    case 8: look(vl_machine_client_drop_connection(client)); break;
    case 9: case 10: case 11:
      data = bytes;
      len = take(bytes, draw(2) ? 200 : sizeof bytes);
      while (look(vl_machine_client_feed(client, now, &data, &len, &event)) == 1) CHECK(event->data != NULL);
      while (look(vl_machine_client_event(client, &event)) == 1) CHECK(event->text != NULL);
      break;
    case 12: case 13:
      look(vl_machine_client_output(client, &data, &len));
      keep(data, len);
      look(vl_machine_client_written(client, now, draw(len + 2)));
      break;
    case 14: look(vl_machine_backend_connected(backend, now)); break;
    case 15: look(vl_machine_backend_closed(backend)); break;
    case 16: look(vl_machine_backend_send(backend, draw(2) ? vl_to_client(draw(4)) : vl_to_everyone(), bytes, draw(1000), NULL)); break;
    case 17: case 18:
      data = bytes;
      len = take(bytes, 300);
      while (look(vl_machine_backend_feed(backend, now, &data, &len, &event)) == 1) CHECK(event->data != NULL);
      while (look(vl_machine_backend_event(backend, &event)) == 1) CHECK(event->note != NULL);
      look(vl_machine_backend_taken(backend, now));
      break;
    case 19:
      look(vl_machine_backend_output(backend, &data, &len));
      keep(data, len);
      look(vl_machine_backend_written(backend, draw(len + 2)));
      break;
    case 20: look(vl_machine_backend_tick(backend, now)); break;
    default: look(vl_machine_backend_kick(backend, draw(4), (uint16_t)draw(700), "why")); break;
    }
  }
  CHECK(vl_machine_client_free(client) == VL_OK && vl_machine_backend_free(backend) == VL_OK);
}

int main(void) {
  uint64_t first = getenv("FUZZ_SEED") != NULL ? strtoull(getenv("FUZZ_SEED"), NULL, 0) : 1;
  int runs = getenv("SHORT") != NULL ? 40 : 1000;
  for (int run = 0; run < runs; run++) {
    state = (first + (uint64_t)run) * 0x9e3779b97f4a7c15u;
    one();
  }
  printf("fuzz: %d runs from %llu\n", runs, (unsigned long long)first);
  return 0;
}
