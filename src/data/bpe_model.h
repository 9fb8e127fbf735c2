// Byte-pair encoding of one word: the lowest-ranked merge first, the leftmost of equals.
#pragma once
#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace crumb::data {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>>;

/// The "model" of a tokenizer.json of type BPE (Sennrich et al., arXiv:1508.07909; byte-level: Radford et al.
/// 2019).
class BpeModel {
 public:
  /// `json` is the "model" object. Throws Corrupt (a merge of tokens that are not in the vocabulary, ids
  /// twice), Unsupported (another model type, dropout, subword prefix or suffix).
  BpeModel(const nlohmann::json& json, std::string_view subject);

  /// Appends the ids of one word. O(n log n) in its characters.
  void encode(std::string_view word, std::vector<std::int32_t>& out) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::optional<std::int32_t> id(std::string_view token) const;

 private:
  struct Merge {
    std::int32_t rank, id;
  };
  void split_characters(std::string_view word, std::vector<std::int32_t>& symbols) const;
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;

  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::int32_t, 256> byte_ids_{};  // <0xNN>, -1 when absent
  std::optional<std::int32_t> unknown_;
  bool byte_fallback_ = false, fuse_unknown_ = false, ignore_merges_ = false;
};

}  // namespace crumb::data
