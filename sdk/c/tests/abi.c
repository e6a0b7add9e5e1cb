/* Every function with null, zero and too large arguments. `make check` looks whether each one that is exported is in here. */
#include "rig.h"

#define HUGE_LEN ((size_t)-1)

static unsigned char bytes[64];

static void texts(void) {
  CHECK(strcmp(vl_strerror(VL_OK), "done") == 0);
  for (int result = -300; result < 300; result++) CHECK(strlen(vl_strerror(result)) > 0);
  CHECK(strlen(vl_version()) >= 5);
  CHECK(vl_last_error() != NULL);
}

static void machine_client(vl_machine_client *own) {
  bool is_null = own == NULL;
  const uint8_t *data = bytes;
  size_t len = 0;
  const vl_event *event;
  vl_ledger up, down;
  uint64_t late[] = {0, UINT64_MAX};
#define FAILS(call) CHECK((call) == VL_ARGUMENT && strlen(vl_last_error()) > 0)
#define IS(call) CHECK(is_null ? (call) == VL_ARGUMENT : (call) == VL_OK)
  FAILS(vl_machine_client_new(NULL, bytes, NULL));
  FAILS(vl_machine_client_connected(own, 0, NULL));
  FAILS(vl_machine_client_closed(own, 0, 77));
  FAILS(vl_machine_client_feed(own, 0, NULL, &len, &event));
  FAILS(vl_machine_client_feed(own, 0, &data, NULL, &event));
  FAILS(vl_machine_client_feed(own, 0, &data, &len, NULL));
  const uint8_t *nowhere = NULL;
  len = 5;
  FAILS(vl_machine_client_feed(own, 0, &nowhere, &len, &event));
  len = HUGE_LEN;
  FAILS(vl_machine_client_feed(own, 0, &data, &len, &event));
  FAILS(vl_machine_client_event(own, NULL));
  FAILS(vl_machine_client_output(own, NULL, &len));
  FAILS(vl_machine_client_output(own, &data, NULL));
  FAILS(vl_machine_client_written(own, 0, HUGE_LEN));
  FAILS(vl_machine_client_send(own, NULL, 5, NULL));
  FAILS(vl_machine_client_send(own, bytes, HUGE_LEN, NULL));
  FAILS(vl_machine_client_set_token(own, NULL, 5));
  IS(vl_machine_client_output(own, &data, &len));
  len = 0;
  IS(vl_machine_client_feed(own, 0, &nowhere, &len, &event));
  IS(vl_machine_client_event(own, &event));
  IS(vl_machine_client_written(own, 0, 0));
  IS(vl_machine_client_send(own, NULL, 0, NULL));
  IS(vl_machine_client_ledgers(own, NULL, NULL));
  IS(vl_machine_client_ledgers(own, &up, &down));
  CHECK(vl_machine_client_edge_key(own, NULL, HUGE_LEN) == 0);
  CHECK(vl_machine_client_saved_session(own, NULL, HUGE_LEN) == 0);
  CHECK(vl_machine_client_id(own) == 0 && vl_machine_client_acknowledged(own) == 0);
  CHECK(vl_machine_client_version(own) == (is_null ? 0 : 3));
  CHECK(vl_machine_client_state(own) == (is_null ? 0 : VL_STATE_WAITING));
  CHECK((vl_machine_client_max_packet(own) > 0) != is_null);
  CHECK(vl_machine_client_has_room(own, 0) != is_null && !vl_machine_client_has_room(own, HUGE_LEN));
  CHECK(vl_machine_client_unacknowledged(own) == !is_null);
  CHECK(!vl_machine_client_wants_close(own) && vl_machine_client_wants_connect(own, 0) != is_null);
  CHECK(vl_machine_client_next_us(own) == (is_null ? -1 : 0));
  for (int at = 0; at < 2; at++) {
    IS(vl_machine_client_tick(own, late[at]));
    IS(vl_machine_client_taken(own, late[at], late[1 - at]));
    IS(vl_machine_client_connect_failed(own, late[at]));
    IS(vl_machine_client_closed(own, late[at], VL_CLOSED_ERROR));
    IS(vl_machine_client_connected(own, late[at], bytes));
    vl_machine_client_wants_connect(own, late[at]);
  }
  IS(vl_machine_client_drop_connection(own));
  IS(vl_machine_client_start_over(own));
  CHECK(vl_machine_client_set_token(own, bytes, 5) == (is_null ? VL_ARGUMENT : VL_CONFIG));
  IS(vl_machine_client_close(own, UINT64_MAX));
  CHECK(vl_machine_client_free(own) == VL_OK);
}

static void machine_backend(vl_machine_backend *own) {
  bool is_null = own == NULL;
  const uint8_t *data = bytes, *nowhere = NULL;
  size_t len = 5;
  const vl_event *event;
  uint64_t ids[17] = {0};
  FAILS(vl_machine_backend_new(NULL, bytes, NULL));
  FAILS(vl_machine_backend_feed(own, 0, &nowhere, &len, &event));
  FAILS(vl_machine_backend_feed(own, 0, NULL, NULL, NULL));
  FAILS(vl_machine_backend_event(own, NULL));
  FAILS(vl_machine_backend_output(own, NULL, NULL));
  FAILS(vl_machine_backend_written(own, HUGE_LEN));
  FAILS(vl_machine_backend_send(own, vl_to_client(0), NULL, 5, NULL));
  FAILS(vl_machine_backend_send(own, vl_to_group_number(UINT64_MAX), bytes, 5, NULL));
  FAILS(vl_machine_backend_send(own, vl_without(vl_to_everyone(), NULL, 1), bytes, 5, NULL));
  vl_target nobody = {0};
  FAILS(vl_machine_backend_send(own, nobody, bytes, 5, NULL));
  FAILS(vl_machine_backend_add(own, vl_to_everyone(), 0));
  FAILS(vl_machine_backend_kick(own, 0, 12, NULL));
  int too_many = vl_machine_backend_send(own, vl_without(vl_to_everyone(), ids, 17), bytes, 5, NULL);
  CHECK(too_many == (is_null ? VL_ARGUMENT : VL_TOO_LONG));
  IS(vl_machine_backend_connected(own, 0));
  IS(vl_machine_backend_output(own, &data, &len));
  len = 0;
  IS(vl_machine_backend_feed(own, UINT64_MAX, &nowhere, &len, &event));
  IS(vl_machine_backend_event(own, &event));
  IS(vl_machine_backend_written(own, 0));
  IS(vl_machine_backend_taken(own, UINT64_MAX));
  IS(vl_machine_backend_tick(own, UINT64_MAX));
  IS(vl_machine_backend_send(own, vl_to_client(UINT64_MAX), NULL, 0, ids));
  IS(vl_machine_backend_send_latest(own, vl_to_client(0), UINT64_MAX, bytes, 5));
  IS(vl_machine_backend_send_volatile(own, vl_to_everyone(), bytes, 5));
  IS(vl_machine_backend_add(own, vl_to_group_number(0), UINT64_MAX));
  IS(vl_machine_backend_remove(own, vl_to_group_number(0), UINT64_MAX));
  IS(vl_machine_backend_kick(own, UINT64_MAX, 600, NULL));
  CHECK((vl_machine_backend_max_packet(own) > 0) != is_null);
  CHECK(vl_machine_backend_settled(own, 0) == 0);
  CHECK(!vl_machine_backend_wants_close(own));
  vl_machine_backend_next_us(own);
  IS(vl_machine_backend_closed(own));
  CHECK(vl_machine_backend_free(own) == VL_OK);
}

static void client(vl_client *own) {
  bool is_null = own == NULL;
  const vl_event *event;
  vl_ledger up;
  FAILS(vl_client_open(NULL, NULL));
  FAILS(vl_client_poll(own, NULL, 0));
  FAILS(vl_client_send(own, NULL, 5, NULL));
  FAILS(vl_client_send(own, bytes, HUGE_LEN, NULL));
  FAILS(vl_client_send_volatile(own, NULL, 5));
  FAILS(vl_client_set_token(own, NULL, 5));
  IS(vl_client_send(own, NULL, 0, NULL));
  CHECK(vl_client_send_volatile(own, NULL, 0) == (is_null ? VL_ARGUMENT : VL_NO_ROOM));
  CHECK(vl_client_set_token(own, bytes, 1 << 20) == (is_null ? VL_ARGUMENT : VL_TOO_LONG));
  CHECK(vl_client_start_over(own) == (is_null ? VL_ARGUMENT : VL_OVER));
  IS(vl_client_drop_connection(own));
  IS(vl_client_ledgers(own, NULL, &up));
  CHECK(vl_client_rtt_us(own) == -1);
  CHECK(vl_client_id(own) == 0 && vl_client_acknowledged(own) == 0 && !vl_client_is_connected(own));
  CHECK(vl_client_unacknowledged(own) == !is_null && vl_client_version(own) == (is_null ? 0 : 3));
  CHECK((vl_client_max_packet(own) > 0) != is_null);
  CHECK(vl_client_edge_key(own, NULL, HUGE_LEN) == 0 && vl_client_saved_session(own, NULL, HUGE_LEN) == 0);
  FAILS(vl_client_save(own, NULL, 5));
  CHECK(vl_client_save(own, bytes, 1) == VL_ARGUMENT && vl_client_state(own, NULL, HUGE_LEN) == 0);
  CHECK((vl_client_fd(own) >= 0) != is_null);
  vl_client_wake(own);
  int got = vl_client_poll(own, &event, INT64_MAX);
  CHECK(is_null ? got == VL_ARGUMENT : got >= 0);
  vl_client_next_us(own);
  CHECK(vl_client_free(NULL) == VL_OK);
  CHECK(vl_client_close(own, 0) <= VL_OK);
}

static void backend(vl_backend *own) {
  bool is_null = own == NULL;
  const vl_event *event;
  uint64_t ids[1] = {0};
  char text[8];
  FAILS(vl_backend_open(NULL, NULL));
  FAILS(vl_backend_poll(own, NULL, 0));
  FAILS(vl_backend_send(own, vl_to_everyone(), NULL, 5, NULL));
  FAILS(vl_backend_send_latest(own, vl_to_everyone(), 0, bytes, HUGE_LEN));
  FAILS(vl_backend_send_volatile(own, vl_without(vl_to_everyone(), NULL, 5), bytes, 5));
  FAILS(vl_backend_add(own, vl_to_client(0), 0));
  FAILS(vl_backend_remove(own, vl_to_everyone(), 0));
  FAILS(vl_backend_add(own, vl_to_group(own, NULL), 0));
  FAILS(vl_backend_kick(own, 0, 65535, NULL));
  FAILS(vl_backend_set_note(own, 0, "\xff\xfe"));
  FAILS(vl_backend_ask_to_leave(own, vl_to_everyone(), -1));
  FAILS(vl_backend_ask_to_leave(own, vl_to_group_number(1), 0));
  FAILS(vl_backend_ask_to_leave(own, vl_without(vl_to_everyone(), ids, 1), 0));
  IS(vl_backend_send(own, vl_to_everyone(), NULL, 0, NULL));
  IS(vl_backend_send(own, vl_to_client(UINT64_MAX), bytes, 5, ids));
  IS(vl_backend_send_latest(own, vl_to_client(0), UINT64_MAX, NULL, 0));
  IS(vl_backend_send_volatile(own, vl_to_client(0), NULL, 0));
  IS(vl_backend_add(own, is_null ? vl_to_group_number(0) : vl_to_group(own, ""), 0));
  IS(vl_backend_kick(own, UINT64_MAX, 600, NULL));
  IS(vl_backend_admit(own, UINT64_MAX, NULL));
  IS(vl_backend_refuse(own, UINT64_MAX, 0, NULL));
  IS(vl_backend_pause(own, UINT64_MAX));
  IS(vl_backend_unpause(own, UINT64_MAX));
  IS(vl_backend_set_note(own, UINT64_MAX, NULL));
  IS(vl_backend_ask_to_leave(own, vl_to_client(UINT64_MAX), 0));
  IS(vl_backend_ask_to_leave(own, vl_to_everyone(), INT64_MAX));
  CHECK(vl_backend_note(own, 0, NULL, HUGE_LEN) == 0 && vl_backend_clients(own, NULL, HUGE_LEN) == 0);
  /* A place that is too small gets what fits, and the whole length is told. */
  CHECK((vl_backend_address(own, text, 4) > 8) != is_null);
  CHECK(vl_backend_members(own, vl_to_everyone(), ids, HUGE_LEN) == 0 && vl_backend_members(own, vl_to_group_number(1), NULL, HUGE_LEN) == 0);
  CHECK(vl_backend_client(own, UINT64_MAX, NULL, NULL, NULL) == (is_null ? VL_ARGUMENT : VL_OVER));
  CHECK(vl_backend_acknowledged(own, 0) == 0 && vl_backend_acknowledged(own, UINT64_MAX) == 0);
  CHECK(!vl_backend_is_connected(own) && (vl_backend_queued(own) > 0) != is_null);
  CHECK((vl_backend_max_packet(own) > 0) != is_null && (vl_backend_fd(own) >= 0) != is_null);
  vl_backend_wake(own);
  int got = vl_backend_poll(own, &event, -1);
  CHECK(is_null ? got == VL_ARGUMENT : got == 0);
  CHECK(vl_backend_poll(own, &event, 0) == (is_null ? VL_ARGUMENT : 0));
  vl_backend_next_us(own);
  CHECK(vl_backend_free(NULL) == VL_OK);
  CHECK(vl_backend_close(own, 0) <= VL_OK);
}

static void options(void) {
  vl_client *opened = (vl_client *)bytes;
  vl_client_options wrong = VL_CLIENT_OPTIONS;
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG && opened == NULL);
  wrong.size = 0;
  FAILS(vl_client_open(&wrong, &opened));
  /* Less than any version had: a pointer in it would be cut. */
  wrong.size = sizeof wrong - 1;
  CHECK(vl_client_open(&wrong, &opened) == VL_ARGUMENT && strstr(vl_last_error(), "sizeof") != NULL);
  wrong.size = UINT32_MAX;
  FAILS(vl_client_open(&wrong, &opened));
  const char *addresses[] = {"", "nowhere", "unix:here", "gopher://a:1", "a:70000", "\xff"};
  for (size_t at = 0; at < sizeof addresses / sizeof *addresses; at++) {
    wrong = (vl_client_options)VL_CLIENT_OPTIONS;
    wrong.address = addresses[at];
    CHECK(vl_client_open(&wrong, &opened) != VL_OK && opened == NULL);
  }
  wrong.address = "127.0.0.1:1";
  wrong.version = 4;
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG);
  wrong.version = 0;
  wrong.edge_key = "12";
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG && strstr(vl_last_error(), "66") != NULL);
  wrong.edge_key = NULL;
  wrong.saved = bytes;
  wrong.saved_len = 3;
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG);
  wrong.saved = NULL;
  wrong.saved_len = 0;
  /* The library of these tests has no TLS. */
  wrong.authority_file = "authority.pem";
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG && strstr(vl_last_error(), "TLS") != NULL);
  wrong.authority_file = NULL;
  /* Those of the first version, which ended before it, and what would cut it. */
  wrong.size = offsetof(vl_client_options, authority_file);
  CHECK(vl_client_open(&wrong, &opened) == VL_OK && vl_client_free(opened) == VL_OK);
  wrong.size += 4;
  FAILS(vl_client_open(&wrong, &opened));
  wrong.size = sizeof wrong;
  wrong.queue_bytes = 1;
  CHECK(vl_client_open(&wrong, &opened) == VL_CONFIG);
  /* Options of a later version: what it added may be 0, and not be set. */
  struct {
    vl_client_options known;
    uint64_t added;
  } later = {VL_CLIENT_OPTIONS, 0};
  later.known.size = sizeof later;
  later.known.address = "127.0.0.1:1";
  CHECK(vl_client_open(&later.known, &opened) == VL_OK && vl_client_free(opened) == VL_OK);
  later.added = 1;
  CHECK(vl_client_open(&later.known, &opened) == VL_CONFIG);
  vl_backend *listening;
  vl_backend_options at = VL_BACKEND_OPTIONS;
  CHECK(vl_backend_open(&at, &listening) == VL_CONFIG);
  at.size = sizeof at - 1;
  CHECK(vl_backend_open(&at, &listening) == VL_ARGUMENT);
  at.size = sizeof at;
  at.address = "192.0.2.1:1";
  CHECK(vl_backend_open(&at, &listening) == VL_IO && listening == NULL);
  at.address = "127.0.0.1:0";
  at.version = 9;
  CHECK(vl_backend_open(&at, &listening) == VL_CONFIG);
  at.version = 3;
  at.overflow = 2;
  CHECK(vl_backend_open(&at, &listening) == VL_CONFIG && strstr(vl_last_error(), "VL_OVERFLOW_GAP") != NULL);
  /* Those of the version before it end there. */
  at.size = offsetof(vl_backend_options, overflow);
  CHECK(vl_backend_open(&at, &listening) == VL_OK && vl_backend_free(listening) == VL_OK);
}

int main(void) {
  texts();
  options();
  machine_client(NULL);
  machine_backend(NULL);
  client(NULL);
  backend(NULL);

  vl_client_options to = VL_CLIENT_OPTIONS;
  vl_backend_options at = VL_BACKEND_OPTIONS;
  vl_machine_client *one;
  CHECK(vl_machine_client_new(&to, NULL, &one) == VL_ARGUMENT && one == NULL);
  CHECK(vl_machine_client_new(&to, bytes, &one) == VL_OK);
  machine_client(one);
  vl_machine_backend *other;
  at.version = 3;
  CHECK(vl_machine_backend_new(&at, bytes, &other) == VL_OK);
  machine_backend(other);
  vl_client *with_socket;
  to.address = "127.0.0.1:1";
  CHECK(vl_client_open(&to, &with_socket) == VL_OK);
  client(with_socket);
  vl_backend *listening;
  at.address = "127.0.0.1:0";
  CHECK(vl_backend_open(&at, &listening) == VL_OK);
  backend(listening);
  printf("abi\n");
  return 0;
}
