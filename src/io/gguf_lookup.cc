// Typed look-ups in a GGUF file's metadata.
#include <utility>

#include "base/error.h"
#include "io/gguf.h"

namespace crumb::io {
namespace {

constexpr std::string_view kWhere = "io.gguf";

/// The name of a variant's alternative, for messages.
std::string_view kind_of(const GgufValue& value) {
  static constexpr std::string_view kNames[] = {
      "an unsigned integer", "an integer",         "a float", "a bool", "a string", "an array of integers",
      "an array of floats",  "an array of strings"};
  return kNames[value.index()];
}

const GgufValue* find_value(const GgufFile& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? nullptr : &found->second;
}

const GgufValue& value_at(const GgufFile& file, std::string_view key) {
  if (const GgufValue* value = find_value(file, key)) return *value;
  fail(ErrorKind::kNotFound, kWhere, file.path().string(), ": no key '", key,
       "' in the metadata; expected one");
}

[[noreturn]] void wrong_kind(const GgufFile& file, std::string_view key, const GgufValue& value,
                             std::string_view expected) {
  fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": key '", key, "' is ", kind_of(value),
       "; expected ", expected);
}

std::int64_t as_int(const GgufFile& file, std::string_view key, const GgufValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  const auto* number = std::get_if<std::uint64_t>(&value);
  if (number == nullptr) wrong_kind(file, key, value, "an integer");
  if (!std::in_range<std::int64_t>(*number)) {
    fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": key '", key, "' is ", *number,
         "; expected at most 2^63 - 1");
  }
  return static_cast<std::int64_t>(*number);
}

double as_float(const GgufFile& file, std::string_view key, const GgufValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::uint64_t>(&value)) return static_cast<double>(*number);
  wrong_kind(file, key, value, "a number");
}

const std::string& as_string(const GgufFile& file, std::string_view key, const GgufValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  wrong_kind(file, key, value, "a string");
}

template <class T>
const T* find_as(const GgufFile& file, std::string_view key) {
  const GgufValue* value = find_value(file, key);
  return value == nullptr ? nullptr : std::get_if<T>(value);
}

}  // namespace

std::int64_t GgufFile::get_int(std::string_view key) const {
  return as_int(*this, key, value_at(*this, key));
}
double GgufFile::get_float(std::string_view key) const {
  return as_float(*this, key, value_at(*this, key));
}
const std::string& GgufFile::get_string(std::string_view key) const {
  return as_string(*this, key, value_at(*this, key));
}

std::int64_t GgufFile::get_int(std::string_view key, std::int64_t otherwise) const {
  const GgufValue* value = find_value(*this, key);
  return value == nullptr ? otherwise : as_int(*this, key, *value);
}

double GgufFile::get_float(std::string_view key, double otherwise) const {
  const GgufValue* value = find_value(*this, key);
  return value == nullptr ? otherwise : as_float(*this, key, *value);
}

bool GgufFile::get_bool(std::string_view key, bool otherwise) const {
  const GgufValue* value = find_value(*this, key);
  if (value == nullptr) return otherwise;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  wrong_kind(*this, key, *value, "a bool");
}

std::string GgufFile::get_string(std::string_view key, std::string_view otherwise) const {
  const GgufValue* value = find_value(*this, key);
  return value == nullptr ? std::string(otherwise) : as_string(*this, key, *value);
}

const std::vector<std::string>* GgufFile::find_strings(std::string_view key) const {
  return find_as<std::vector<std::string>>(*this, key);
}
const std::vector<double>* GgufFile::find_floats(std::string_view key) const {
  return find_as<std::vector<double>>(*this, key);
}
const std::vector<std::int64_t>* GgufFile::find_ints(std::string_view key) const {
  return find_as<std::vector<std::int64_t>>(*this, key);
}

}  // namespace crumb::io
