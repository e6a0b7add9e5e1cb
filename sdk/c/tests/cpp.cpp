// voltlane.hpp against the real edge.
#include "../include/voltlane.hpp"

#include "rig.h"

template <class Side> const vl_event *await(Side &side, vl_event_type type) {
  for (auto until = now_us() + PATIENCE_US; now_us() < until;)
    if (const vl_event *event = side.poll(1000))
      if (event->type == type) return event;
  fprintf(stderr, "waited for %d\n", type);
  abort();
}

int main() {
  try {
    voltlane::client nowhere("nowhere");
    CHECK(false);
  } catch (const voltlane::error &error) {
    CHECK(error.code() == VL_CONFIG && std::string(error.what()).find("nowhere") != std::string::npos);
  }
  voltlane::backend first("127.0.0.1:0");
  voltlane::backend backend = std::move(first);
  CHECK(first.get() == nullptr && first.address().empty());
  // What was moved from has nothing more to tell, and says so.
  CHECK(first.is_over() && !backend.is_over() && first.poll() == nullptr && first.last_result() == VL_ARGUMENT);
  edge served = edge_start(backend.address().c_str(), "");
  {
    voltlane::client net(served.address);
    std::uint64_t id = await(net, VL_EVENT_CONNECTED)->id;
    CHECK(net.id() == id && net.is_connected() && net.send("hello") == VL_OK);
    net.poll();
    CHECK(voltlane::data_of(*await(backend, VL_EVENT_PACKET)) == "hello");
    auto red = backend.group("red");
    CHECK(backend.add(red, id) == VL_OK);
    CHECK(backend.members(red) == std::vector<std::uint64_t>{id} && backend.members(backend.group("blue")).empty());
    CHECK(backend.send(id, "one") == VL_OK && backend.send(red, "two") == VL_OK);
    CHECK(backend.send(voltlane::target::everyone().without({id}), "not you") == VL_OK);
    CHECK(backend.send_latest(id, 1, "three") == VL_OK);
    for (const char *text : {"one", "two", "three"}) {
      backend.poll();
      CHECK(voltlane::data_of(*await(net, VL_EVENT_PACKET)) == text);
    }
    CHECK(backend.kick(id, 600, "enough") == VL_OK);
    await(backend, VL_EVENT_ENDED);
    await(net, VL_EVENT_ENDED);
    CHECK(net.acknowledged() <= 1 && backend.acknowledged(id) == 0);
    CHECK(net.poll() == nullptr && net.is_over() && net.last_result() == VL_OVER);
    voltlane::client moved = std::move(net);
    CHECK(moved.is_over() && moved.last_result() == VL_OVER);
    CHECK(backend.poll() == nullptr && !backend.is_over() && backend.last_result() == VL_OK);
  }
  edge_stop(&served);
  puts("c++");
}
