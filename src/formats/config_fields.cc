#include "formats/config_fields.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace crumb::formats {

using nlohmann::ordered_json;

ConfigFields::ConfigFields(const ordered_json& object, std::string_view where, std::string_view subject)
    : object_(object), where_(where), subject_(subject) {
  if (!object.is_object())
    fail(ErrorKind::kCorrupt, where, subject,
         ": the quantization configuration is no JSON object, or a part of it that should be one is not");
}

const ordered_json* ConfigFields::find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t ConfigFields::integer(std::string_view key) const {
  const ordered_json* value = find(key);
  if (value == nullptr || !value->is_number_integer()) {
    fail(ErrorKind::kCorrupt, where_, subject_, ": quantization ", key, " is ",
         value == nullptr ? "missing" : value->dump(), "; expected an integer");
  }
  return value->get<std::int64_t>();
}

std::int64_t ConfigFields::integer(std::string_view key, std::int64_t otherwise) const {
  return find(key) == nullptr ? otherwise : integer(key);
}

bool ConfigFields::flag(std::string_view key, bool otherwise) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) {
    fail(ErrorKind::kCorrupt, where_, subject_, ": quantization ", key, " is ", value->dump(),
         "; expected true or false");
  }
  return value->get<bool>();
}

std::string ConfigFields::text(std::string_view key) const {
  const ordered_json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_string())
    fail(ErrorKind::kCorrupt, where_, subject_, ": quantization ", key, " is ", value->dump(),
         "; expected a name");
  return value->get<std::string>();
}

const ordered_json* ConfigFields::object(std::string_view key) const {
  const ordered_json* value = find(key);
  if (value != nullptr && !value->is_object())
    fail(ErrorKind::kCorrupt, where_, subject_, ": quantization ", key, " is ", value->dump(),
         "; expected an object");
  return value;
}

const ordered_json* ConfigFields::array(std::string_view key) const {
  const ordered_json* value = find(key);
  if (value != nullptr && !value->is_array())
    fail(ErrorKind::kCorrupt, where_, subject_, ": quantization ", key, " is ", value->dump(),
         "; expected a list");
  return value;
}

int ConfigFields::checked_bits(std::int64_t bits) const {
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
    fail(ErrorKind::kUnsupported, where_, subject_, ": bits is ", bits, "; known are 2, 3, 4 and 8");
  return static_cast<int>(bits);
}

std::int64_t ConfigFields::checked_group(std::int64_t group) const {
  if (group != -1 && group <= 0)
    fail(ErrorKind::kCorrupt, where_, subject_, ": group_size is ", group,
         "; expected a positive number or -1");
  return group;
}

quant::AffineSpec ConfigFields::spec(std::string_view bits_key) const {
  return {checked_bits(integer(bits_key)), checked_group(integer("group_size")), quant::Grid::kAsym};
}

quant::AffineSpec ConfigFields::spec_over(const quant::AffineSpec& otherwise) const {
  return {checked_bits(integer("bits", otherwise.bits)),
          checked_group(integer("group_size", otherwise.group_size)), otherwise.grid};
}

}  // namespace crumb::formats
