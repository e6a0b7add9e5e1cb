/* The loop of a game: game HOST:PORT FRAMES. Each frame takes all that has come, and then sends where this player is. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <voltlane.h>

int main(int count, char **words) {
  vl_client_options options = VL_CLIENT_OPTIONS;
  vl_client *net;
  const vl_event *event;
  int got = 0, frames = count > 2 ? atoi(words[2]) : 600;
  unsigned long seen = 0;
  options.address = count > 1 ? words[1] : "127.0.0.1:42000";
  if (vl_client_open(&options, &net) != VL_OK) {
    fprintf(stderr, "%s\n", vl_last_error());
    return 1;
  }
  for (int frame = 0; frame < frames && got >= 0; frame++) {
    while ((got = vl_client_poll(net, &event, 0)) > 0) {
      if (event->type == VL_EVENT_PACKET) seen++;
      if (event->type == VL_EVENT_DROPPED) puts("reconnecting");
      if (event->type == VL_EVENT_ENDED) printf("%d %s\n", event->code, event->text);
    }
    /* A position that cannot leave now is not worth sending later. */
    float position[2] = {(float)frame, 0};
    vl_client_send_volatile(net, position, sizeof position);
    nanosleep(&(struct timespec){.tv_nsec = 16666667}, NULL);
  }
  printf("%lu positions\n", seen);
  return vl_client_close(net, 1000000);
}
