/* A backend that sends back whatever comes: echo 127.0.0.1:42001 */
#include <stdio.h>
#include <voltlane.h>

int main(int count, char **words) {
  vl_backend_options options = VL_BACKEND_OPTIONS;
  options.address = count > 1 ? words[1] : "127.0.0.1:42001";
  vl_backend *backend;
  const vl_event *event;
  if (vl_backend_open(&options, &backend) != VL_OK) {
    fprintf(stderr, "%s\n", vl_last_error());
    return 1;
  }
  while (vl_backend_poll(backend, &event, -1) >= 0) {
    if (event != NULL && event->type == VL_EVENT_PACKET)
      vl_backend_send(backend, vl_to_client(event->id), event->data, event->len, NULL);
  }
  return vl_backend_close(backend, 1000000);
}
