#include "io/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"

namespace crumb::io {
namespace {

constexpr std::string_view kWhere = "io.parse_json";
constexpr int kMaxDepth = 64;  // config.json, tokenizer.json and headers need fewer than 16

// "parse error at line 3, column 5: ..." out of "[json.exception.parse_error.101] parse error at line ...".
std::string reason_of(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

template <class Json>
Json parse(std::string_view text, std::string_view subject) {
  // The library takes a zero byte for the end of the text, so that what follows it would be ignored in
  // silence.
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(zero), '\n');
    fail(ErrorKind::kCorrupt, kWhere, subject, ": line ", line, ": a zero byte at offset ", zero,
         "; expected JSON text");
  }
  std::vector<std::unordered_set<std::string>>
      keys;  // of each object that is open; an array has an empty set
  const auto callback = [&](int depth, typename Json::parse_event_t event, Json& value) {
    using Event = typename Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        if (depth >= kMaxDepth) {
          fail(ErrorKind::kCorrupt, kWhere, subject, ": nested more than ", kMaxDepth, " levels deep");
        }
        keys.emplace_back();
        break;
      case Event::object_end:
      case Event::array_end:
        keys.pop_back();
        break;
      case Event::key: {
        std::string key = value.template get<std::string>();
        if (!keys.back().insert(key).second) {
          fail(ErrorKind::kCorrupt, kWhere, subject, ": key '", key,
               "' is there twice in one object; expected once. Readers would disagree on which one counts");
        }
        break;
      }
      default:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), callback);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": ", reason_of(error));
  }
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view subject) {
  return parse<nlohmann::json>(text, subject);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, std::string_view subject) {
  return parse<nlohmann::ordered_json>(text, subject);
}

std::string read_text_file(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.value < 0) {
    const int reason = errno;
    const bool absent = reason == ENOENT || reason == ENOTDIR;
    fail(absent ? ErrorKind::kNotFound : ErrorKind::kIo, "io.read_text_file", path.string(),
         ": cannot be opened: ", std::strerror(reason), absent ? "; check the path" : "");
  }
  std::string text;
  struct stat status = {};
  if (::fstat(file.value, &status) == 0 && S_ISREG(status.st_mode))
    text.reserve(static_cast<std::size_t>(status.st_size));
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t count = ::read(file.value, buffer.data(), buffer.size());
    if (count == 0) return text;
    if (count < 0) {
      if (errno == EINTR) continue;
      fail(ErrorKind::kIo, "io.read_text_file", path.string(), ": cannot be read: ", std::strerror(errno));
    }
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace crumb::io
