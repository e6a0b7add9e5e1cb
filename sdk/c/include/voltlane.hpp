// The client and the backend of Voltlane for C++17 and later: voltlane.h with owners. No code of its own to link.
//
// Only constructors throw. What is sent or asked returns what C returns; an event is what the library lends until the next call.
#ifndef VOLTLANE_HPP
#define VOLTLANE_HPP

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "voltlane.h"

namespace voltlane {

/// A client or a backend could not begin.
class error : public std::runtime_error {
public:
  explicit error(int code) : std::runtime_error(vl_last_error()), code_(code) {}
  /// A vl_result.
  int code() const noexcept { return code_; }

private:
  int code_;
};

/// The bytes of an event, which are lent.
inline std::string_view data_of(const vl_event &event) noexcept {
  return {reinterpret_cast<const char *>(event.data), event.len};
}

/// Default options, to be changed.
inline vl_client_options client_options(const char *address = nullptr) noexcept {
  vl_client_options options{};
  options.size = sizeof options;
  options.give_up_after_us = 30000000;
  options.address = address;
  return options;
}

/// Default options, to be changed.
inline vl_backend_options backend_options(const char *address = nullptr) noexcept {
  vl_backend_options options{};
  options.size = sizeof options;
  options.address = address;
  return options;
}

/// How long a destructor waits for a goodbye to be answered.
constexpr std::int64_t close_within_us = 1000000;

/// Whom a packet goes to: a client's id, a group, or everyone, and who is left out.
class target {
public:
  target(std::uint64_t id) noexcept : to_(vl_to_client(id)) {}
  explicit target(vl_target to) noexcept : to_(to) {}
  static target everyone() noexcept { return target(vl_to_everyone()); }
  target without(std::initializer_list<std::uint64_t> ids) const {
    target left = *this;
    left.without_.insert(left.without_.end(), ids);
    return left;
  }
  vl_target get() const noexcept { return without_.empty() ? to_ : vl_without(to_, without_.data(), without_.size()); }

private:
  vl_target to_;
  std::vector<std::uint64_t> without_;
};

/// A client with a socket of its own. It is moved, and not copied. Its destructor says goodbye.
class client {
public:
  explicit client(const vl_client_options &options) {
    if (int result = vl_client_open(&options, &raw_)) throw error(result);
  }
  explicit client(const char *address) : client(client_options(address)) {}
  client(client &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)), last_(std::exchange(other.last_, VL_ARGUMENT)) {}
  client &operator=(client &&other) noexcept {
    std::swap(raw_, other.raw_);
    std::swap(last_, other.last_);
    return *this;
  }
  ~client() { vl_client_close(raw_, close_within_us); }

  /// The next event, or null: there is none now, or it failed.
  const vl_event *poll(std::int64_t timeout_us = 0) noexcept {
    const vl_event *event = nullptr;
    last_ = vl_client_poll(raw_, &event, timeout_us);
    return event;
  }
  /// Whether the last poll failed: the session is over, or something is wrong.
  bool is_over() const noexcept { return last_ < 0; }
  /// What the last poll returned: a vl_result below 0 if it failed, and VL_OVER if nothing more comes.
  int last_result() const noexcept { return last_; }
  int send(std::string_view data, std::uint64_t *number = nullptr) noexcept {
    return vl_client_send(raw_, data.data(), data.size(), number);
  }
  int send_volatile(std::string_view data) noexcept { return vl_client_send_volatile(raw_, data.data(), data.size()); }
  std::uint64_t id() const noexcept { return vl_client_id(raw_); }
  bool is_connected() const noexcept { return vl_client_is_connected(raw_); }
  /// The number up to which the packets to the edge are acknowledged.
  std::uint64_t acknowledged() const noexcept { return vl_client_acknowledged(raw_); }
  /// Says goodbye and waits for the answer. The client is empty then.
  int close(std::int64_t timeout_us = close_within_us) noexcept {
    return vl_client_close(std::exchange(raw_, nullptr), timeout_us);
  }
  /// For the calls of voltlane.h. It stays the owner.
  vl_client *get() const noexcept { return raw_; }

private:
  vl_client *raw_ = nullptr;
  int last_ = VL_OK;
};

/// A backend with sockets of its own. It is moved, and not copied. Its destructor writes what waits.
class backend {
public:
  explicit backend(const vl_backend_options &options) {
    if (int result = vl_backend_open(&options, &raw_)) throw error(result);
  }
  explicit backend(const char *address) : backend(backend_options(address)) {}
  backend(backend &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)), last_(std::exchange(other.last_, VL_ARGUMENT)) {}
  backend &operator=(backend &&other) noexcept {
    std::swap(raw_, other.raw_);
    std::swap(last_, other.last_);
    return *this;
  }
  ~backend() { vl_backend_close(raw_, close_within_us); }

  /// The next event, or null: there is none now, or it failed.
  const vl_event *poll(std::int64_t timeout_us = 0) noexcept {
    const vl_event *event = nullptr;
    last_ = vl_backend_poll(raw_, &event, timeout_us);
    return event;
  }
  /// Whether the last poll failed: the backend is closed, or something is wrong.
  bool is_over() const noexcept { return last_ < 0; }
  /// What the last poll returned: a vl_result below 0 if it failed.
  int last_result() const noexcept { return last_; }
  int send(const target &to, std::string_view data) noexcept {
    return vl_backend_send(raw_, to.get(), data.data(), data.size(), nullptr);
  }
  int send_latest(const target &to, std::uint64_t key, std::string_view data) noexcept {
    return vl_backend_send_latest(raw_, to.get(), key, data.data(), data.size());
  }
  int send_volatile(const target &to, std::string_view data) noexcept {
    return vl_backend_send_volatile(raw_, to.get(), data.data(), data.size());
  }
  target group(const char *name) const noexcept { return target(vl_to_group(raw_, name)); }
  int add(const target &group, std::uint64_t id) noexcept { return vl_backend_add(raw_, group.get(), id); }
  int remove(const target &group, std::uint64_t id) noexcept { return vl_backend_remove(raw_, group.get(), id); }
  std::vector<std::uint64_t> members(const target &group) const {
    std::vector<std::uint64_t> ids(vl_backend_members(raw_, group.get(), nullptr, 0));
    ids.resize(vl_backend_members(raw_, group.get(), ids.data(), ids.size()));
    return ids;
  }
  /// The number up to which every packet to this client is settled.
  std::uint64_t acknowledged(std::uint64_t id) const noexcept { return vl_backend_acknowledged(raw_, id); }
  int kick(std::uint64_t id, std::uint16_t code, const char *text = nullptr) noexcept {
    return vl_backend_kick(raw_, id, code, text);
  }
  std::string address() const {
    std::string text(vl_backend_address(raw_, nullptr, 0) + 1, '\0');
    vl_backend_address(raw_, &text[0], text.size());
    text.pop_back();
    return text;
  }
  /// For the calls of voltlane.h. It stays the owner.
  vl_backend *get() const noexcept { return raw_; }

private:
  vl_backend *raw_ = nullptr;
  int last_ = VL_OK;
};

} // namespace voltlane

#endif
