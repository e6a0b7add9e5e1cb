/* A client that is killed at random goes on with its session file: nothing is lost, and nothing counts twice, in both directions. */
#include <errno.h>
#include <sys/stat.h>

#include "rig.h"

#define COUNT 300

/* What the application has done, as it saves it. */
typedef struct {
  uint32_t sent, got;
} progress;

/* Sends the numbers below COUNT, takes them back, and saves after each step. */
static int child(const char *address, const char *file) {
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.address = address;
  to.version = 3;
  to.session_file = file;
  to.ack_when_saved = true;
  to.give_up_after_us = -1;
  vl_client *client;
  const vl_event *event;
  progress done = {0, 0};
  CHECK(vl_client_open(&to, &client) == VL_OK);
  size_t length = vl_client_state(client, (uint8_t *)&done, sizeof done);
  CHECK(length == 0 || length == sizeof done);
  while (done.got < COUNT) {
    CHECK(vl_client_poll(client, &event, -1) == 1);
    CHECK(event->type != VL_EVENT_ENDED);
    if (event->type == VL_EVENT_PACKET) {
      CHECK(event->len == sizeof done.got && memcmp(event->data, &done.got, sizeof done.got) == 0);
      done.got++;
    }
    for (; done.sent < COUNT && done.sent < done.got + 30; done.sent++)
      CHECK(vl_client_send(client, &done.sent, sizeof done.sent, NULL) == VL_OK);
    CHECK(vl_client_save(client, &done, sizeof done) == VL_OK);
  }
  CHECK(vl_client_close(client, PATIENCE_US) == VL_OK);
  return 0;
}

static void write_file(const char *path, const void *data, size_t length) {
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL && fwrite(data, 1, length, file) == length && fclose(file) == 0);
}

/* What is no session file is refused by name, and one client has it. */
static void refuses(const char *address, const char *path) {
  vl_client_options to = VL_CLIENT_OPTIONS;
  to.address = address;
  to.session_file = path;
  vl_client *client, *second;
  unsigned char whole[256];
  CHECK(vl_client_open(&to, &client) == VL_OK);
  CHECK(vl_client_open(&to, &second) == VL_SESSION_IN_USE && second == NULL);
  static char state[65537];
  CHECK(vl_client_save(client, NULL, 70000) == VL_ARGUMENT);
  CHECK(vl_client_save(client, state, 65537) == VL_TOO_LONG && strstr(vl_last_error(), "65536 allowed") != NULL);
  CHECK(vl_client_save(client, state, 65536) == VL_OK && vl_client_state(client, NULL, 0) == 65536);
  CHECK(vl_client_save(client, "state", 5) == VL_OK);
  CHECK(vl_client_free(client) == VL_OK);
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL);
  size_t length = fread(whole, 1, sizeof whole, file);
  CHECK(fclose(file) == 0 && length > 20 && length < sizeof whole);
  struct stat about;
  CHECK(stat(path, &about) == 0 && (about.st_mode & 0777) == 0600);
  struct {
    unsigned char format;
    size_t length;
    const char *says;
  } cases[] = {{2, length - 1, "cut off"}, {2, 3, "cut off"}, {3, length, "newer"}, {1, length, "older"}};
  for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
    whole[8] = cases[at].format;
    write_file(path, whole, cases[at].length);
    CHECK(vl_client_open(&to, &client) == VL_CONFIG && strstr(vl_last_error(), cases[at].says) != NULL);
  }
  write_file(path, "general.shards = 1\n", 19);
  CHECK(vl_client_open(&to, &client) == VL_CONFIG && strstr(vl_last_error(), "no saved session") != NULL);
  whole[8] = 2;
  write_file(path, whole, length);
  CHECK(vl_client_open(&to, &client) == VL_OK);
  CHECK(vl_client_state(client, NULL, 0) == 5);
  CHECK(vl_client_free(client) == VL_OK && unlink(path) == 0);
}

/* A session that cannot be saved is not told, and one that can is told as one that began. */
static void full_disk(const char *address, const char *path, vl_backend *backend) {
  char fresh[96];
  snprintf(fresh, sizeof fresh, "%s.new", path);
  for (uint32_t version = 2; version <= 3; version++) {
    vl_client_options to = VL_CLIENT_OPTIONS;
    to.address = address;
    to.version = version;
    to.session_file = path;
    vl_client *client;
    const vl_event *event;
    int drops = 0;
    CHECK(mkdir(fresh, 0700) == 0);
    CHECK(vl_client_open(&to, &client) == VL_OK);
    for (uint64_t until = now_us() + PATIENCE_US;;) {
      CHECK(now_us() < until && vl_backend_poll(backend, &event, 0) >= 0);
      int got = vl_client_poll(client, &event, 1000);
      CHECK(got >= 0);
      if (got == 0) continue;
      if (event->type == VL_EVENT_CONNECTED) break;
      CHECK(event->type == VL_EVENT_DROPPED && vl_client_id(client) == 0);
      if (++drops <= 3) CHECK(strstr(event->text, "directory") != NULL);
      if (drops == 3) CHECK(rmdir(fresh) == 0);
    }
    CHECK(drops >= 3 && event->id != 0 && event->id == vl_client_id(client));
    CHECK(vl_client_close(client, PATIENCE_US) == VL_OK && unlink(path) == 0);
  }
}

/* The value of `"name": "..."` in a line of the vectors. Returns its length, or -1 if there is none. */
static long value(const char *line, const char *name, char *out, size_t most) {
  char key[32];
  snprintf(key, sizeof key, "\"%s\": \"", name);
  const char *from = strstr(line, key);
  if (from == NULL) return -1;
  from += strlen(key);
  const char *end = strchr(from, '"');
  CHECK(end != NULL && (size_t)(end - from) < most);
  memcpy(out, from, (size_t)(end - from));
  out[end - from] = 0;
  return end - from;
}

static size_t unhex(const char *digits, unsigned char *out) {
  size_t length = strlen(digits) / 2;
  for (size_t at = 0; at < length; at++) {
    unsigned byte;
    CHECK(sscanf(digits + 2 * at, "%2x", &byte) == 1);
    out[at] = (unsigned char)byte;
  }
  return length;
}

/* What clients save is read, and written again as the same bytes, or refused by name. */
static void vectors(const char *path) {
  static const char *const words[][2] = {
    {"foreign", "no saved session"}, {"older", "older"}, {"newer", "newer"}, {"torn", "cut off"}, {"impossible", "cannot be"}};
  static char line[16384], digits[8192], because[16], id[32];
  static unsigned char content[4096], state[512], again[4096];
  FILE *from = fopen("../../core/tests/vectors/saved.json", "r");
  CHECK(from != NULL);
  int whole = 0, refused = 0;
  while (fgets(line, sizeof line, from) != NULL) {
    if (value(line, "bytes", digits, sizeof digits) < 0) continue;
    size_t length = unhex(digits, content);
    write_file(path, content, length);
    vl_client_options to = VL_CLIENT_OPTIONS;
    to.address = "127.0.0.1:9";
    to.session_file = path;
    vl_client *client;
    if (value(line, "because", because, sizeof because) > 0) {
      CHECK(vl_client_open(&to, &client) == VL_CONFIG);
      const char *says = "";
      for (size_t at = 0; at < sizeof words / sizeof *words; at++)
        if (strcmp(words[at][0], because) == 0) says = words[at][1];
      CHECK(*says != 0 && strstr(vl_last_error(), says) != NULL);
      refused++;
      continue;
    }
    CHECK(vl_client_open(&to, &client) == VL_OK);
    CHECK(value(line, "state", digits, sizeof digits) >= 0);
    size_t states = unhex(digits, state);
    CHECK(vl_client_state(client, again, sizeof again) == states && memcmp(again, state, states) == 0);
    if (value(line, "id", id, sizeof id) > 0) CHECK(vl_client_id(client) == strtoull(id, NULL, 16));
    CHECK(vl_client_save(client, state, states) == VL_OK);
    CHECK(vl_client_free(client) == VL_OK);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fread(again, 1, sizeof again, file) == length && memcmp(again, content, length) == 0 && fclose(file) == 0);
    whole++;
  }
  CHECK(fclose(from) == 0 && whole == 6 && refused == 49 && unlink(path) == 0);
}

int main(int count, char **words) {
  if (count == 4) return child(words[2], words[3]);
  int most_kills = getenv("SHORT") != NULL ? 3 : 20;
  vl_backend_options at = VL_BACKEND_OPTIONS;
  char place[64], path[80], lock[96];
  snprintf(place, sizeof place, "unix:/tmp/voltlane-c-saved-%d.sock", (int)getpid());
  at.address = place;
  vl_backend *backend;
  CHECK(vl_backend_open(&at, &backend) == VL_OK);
  edge served = edge_start(place, "");
  snprintf(path, sizeof path, "%s/session", served.directory);
  snprintf(lock, sizeof lock, "%s.lock", path);
  refuses(served.address, path);
  full_disk(served.address, path, backend);
  vectors(path);

  uint32_t heard = 0;
  int kills = 0;
  srand((unsigned)getpid());
  for (bool done = false; !done;) {
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
      execl(words[0], words[0], "child", served.address, path, (char *)NULL);
      _exit(127);
    }
    uint64_t dies_at = kills < most_kills ? now_us() + (uint64_t)(rand() % 60000) : UINT64_MAX;
    for (uint64_t until = now_us() + PATIENCE_US;;) {
      const vl_event *event;
      CHECK(now_us() < until);
      int got = vl_backend_poll(backend, &event, 1000);
      CHECK(got >= 0);
      if (got == 1 && event->type == VL_EVENT_PACKET) {
        CHECK(event->len == sizeof heard && memcmp(event->data, &heard, sizeof heard) == 0);
        heard++;
        CHECK(vl_backend_send(backend, vl_to_client(event->id), event->data, event->len, NULL) == VL_OK);
      }
      int status;
      if (waitpid(process, &status, WNOHANG) == process) {
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        done = true;
        break;
      }
      if (now_us() >= dies_at) {
        kill(process, SIGKILL);
        CHECK(waitpid(process, &status, 0) == process);
        if (WIFEXITED(status)) {
          CHECK(WEXITSTATUS(status) == 0);
          done = true;
        }
        kills++;
        break;
      }
    }
  }
  CHECK(heard == COUNT);
  CHECK(vl_backend_close(backend, PATIENCE_US) == VL_OK);
  unlink(path);
  unlink(lock);
  edge_stop(&served);
  printf("saved: killed %d times\n", kills);
  return 0;
}
