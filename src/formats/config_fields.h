// Fields of a quantization configuration, with errors that name file and key.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "quant/spec.h"

namespace crumb::formats {

/// One JSON object and the words of its errors: `where` the function, `subject` the file. Absent and null are
/// the same. Throws Corrupt for a value of another type.
class ConfigFields {
 public:
  /// Throws Corrupt unless `object` is one. Keeps references.
  ConfigFields(const nlohmann::ordered_json& object, std::string_view where, std::string_view subject);

  const nlohmann::ordered_json* find(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t otherwise) const;
  bool flag(std::string_view key, bool otherwise = false) const;
  /// Empty when absent.
  std::string text(std::string_view key) const;
  /// nullptr when absent; throws unless it is an object or an array.
  const nlohmann::ordered_json* object(std::string_view key) const;
  const nlohmann::ordered_json* array(std::string_view key) const;

  /// `bits` and `group_size`. Throws Unsupported unless bits is 2, 3, 4 or 8, Corrupt for a group size that
  /// is neither positive nor -1.
  quant::AffineSpec spec(std::string_view bits_key = "bits") const;
  /// Those of them that are given, else those of `otherwise`.
  quant::AffineSpec spec_over(const quant::AffineSpec& otherwise) const;

  std::string_view where() const { return where_; }
  std::string_view subject() const { return subject_; }
  const nlohmann::ordered_json& json() const { return object_; }

 private:
  int checked_bits(std::int64_t bits) const;
  std::int64_t checked_group(std::int64_t group) const;

  const nlohmann::ordered_json& object_;
  std::string_view where_, subject_;
};

}  // namespace crumb::formats
