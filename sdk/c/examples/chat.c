/* A chat client: chat HOST:PORT. What is typed is sent, and what comes is printed. It waits for both in one call. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <voltlane.h>

/* Prints what happened. Returns whether the session is over. */
static bool show(const vl_event *event) {
  switch (event->type) {
  case VL_EVENT_CONNECTED:
    printf("-- you are here\n");
    break;
  case VL_EVENT_PACKET:
    printf("%.*s\n", (int)event->len, (const char *)event->data);
    break;
  case VL_EVENT_DROPPED:
    printf("-- away (%s)\n", event->text);
    break;
  case VL_EVENT_RESUMED:
    printf("-- back, %llu missed\n", (unsigned long long)event->missed);
    break;
  case VL_EVENT_ENDED:
    printf("-- over: %d %s\n", event->code, event->text);
    return true;
  default:
    break;
  }
  fflush(stdout);
  return false;
}

int main(int count, char **words) {
  vl_client_options options = VL_CLIENT_OPTIONS;
  vl_client *client;
  const vl_event *event;
  char line[1024];
  size_t length = 0;
  options.address = count > 1 ? words[1] : "127.0.0.1:42000";
  if (vl_client_open(&options, &client) != VL_OK) {
    fprintf(stderr, "%s\n", vl_last_error());
    return 1;
  }
  for (;;) {
    int got;
    while ((got = vl_client_poll(client, &event, 0)) == 1)
      if (show(event)) return vl_client_close(client, 0);
    if (got < 0) break;
    int64_t next = vl_client_next_us(client);
    struct pollfd wait[] = {{.fd = vl_client_fd(client), .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    poll(wait, 2, next < 0 || next > 60000000 ? 60000 : (int)(next / 1000) + 1);
    if (wait[1].revents == 0) continue;
    ssize_t typed = read(0, line + length, sizeof line - length);
    if (typed <= 0) break;
    length += (size_t)typed;
    char *end = memchr(line, '\n', length);
    if (end == NULL && length < sizeof line) continue;
    size_t whole = end != NULL ? (size_t)(end - line) : length;
    if (vl_client_send(client, line, whole, NULL) == VL_NO_ROOM) printf("-- too much waits: not sent\n");
    length -= end != NULL ? whole + 1 : whole;
    memmove(line, line + (end != NULL ? whole + 1 : whole), length);
  }
  return vl_client_close(client, 1000000);
}
