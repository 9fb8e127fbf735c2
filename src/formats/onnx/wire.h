// Protocol buffers' wire format, as much of it as ONNX models need. Not the library: libtorch carries one of
// its own, and two in one process do not get along.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace crumb::formats {

/// A message being written, field by field.
class WireWriter {
 public:
  void integer(int field, std::int64_t value) {
    tag(field, 0);
    varint(static_cast<std::uint64_t>(value));
  }
  void real(int field, float value) {
    tag(field, 5);
    char bytes[4];
    std::memcpy(bytes, &value, 4);
    text_.append(bytes, 4);
  }
  void bytes(int field, std::string_view value) {
    tag(field, 2);
    varint(value.size());
    text_ += value;
  }
  void message(int field, const WireWriter& value) { bytes(field, value.text_); }
  const std::string& text() const { return text_; }

 private:
  void tag(int field, int type) {
    varint(static_cast<std::uint64_t>(field) << 3 | static_cast<unsigned>(type));
  }
  void varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) text_ += static_cast<char>(value | 128);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

/// Cuts a number off the front of `rest`; false, with value 0, where there is none.
inline bool take_varint(std::string_view& rest, std::uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(rest.front());
    rest.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 127) << shift;
    if (byte < 128) return true;
  }
  value = 0;
  return false;
}

/// Walks the fields of a message. Every length is held to what is left; nothing is copied.
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}

  /// The next field; false at the end, and where the bytes are no message: then ok() is false too.
  bool next() {
    if (rest_.empty() || !ok_) return false;
    const std::uint64_t tag = varint();
    if (!ok_ || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return ok_ = false;
    field_ = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case 0:
        number_ = varint();
        bytes_ = {};
        return ok_;
      case 1:
        return take(8);
      case 2:
        return take(varint());
      case 5:
        return take(4);
      default:
        return ok_ = false;
    }
  }
  bool ok() const { return ok_; }
  int field() const { return field_; }
  std::int64_t integer() const { return static_cast<std::int64_t>(number_); }
  /// Of a string, a message, or packed numbers.
  std::string_view bytes() const { return bytes_; }

 private:
  bool take(std::uint64_t size) {
    number_ = 0;
    if (!ok_ || size > rest_.size()) return ok_ = false;
    bytes_ = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    ok_ = take_varint(rest_, value);
    return value;
  }
  std::string_view rest_, bytes_;
  std::uint64_t number_ = 0;
  int field_ = 0;
  bool ok_ = true;
};

}  // namespace crumb::formats
