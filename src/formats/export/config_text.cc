#include <nlohmann/json.hpp>

#include "formats/export/directory.h"
#include "formats/json_member.h"
#include "io/atomic_output.h"
#include "io/json.h"

namespace crumb::formats {
ConfigText::ConfigText(std::string source) : text_(std::move(source)) {
  for (const char* key : {"quantization_config", "quantization", "compression_config"})
    text_ = erase_json_member(text_, key);
}

void ConfigText::set(std::string_view key, const nlohmann::ordered_json& value) {
  text_ = set_json_member(text_, key, member_text(value));
}

void ConfigText::set_dtype(std::string_view dtype) {
  const nlohmann::json config = io::parse_json(text_, "config.json");
  bool found = false;
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (!config.contains(key)) continue;
    set(key, dtype);
    found = true;
  }
  if (!found) set("torch_dtype", dtype);
}

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value) {
  io::write_text_atomically(path, value.dump(2) + "\n");
}

}  // namespace crumb::formats
