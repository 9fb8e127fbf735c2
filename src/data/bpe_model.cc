#include "data/bpe_model.h"

#include <limits>
#include <queue>
#include <utility>

#include "data/json_fields.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::int64_t kMaxId = 1 << 26;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

// A merge is "a b" or ["a", "b"]; both are found in current files.
std::pair<std::string, std::string> parse_merge(const nlohmann::json& merge, std::size_t index,
                                                std::string_view subject) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && space > 0 && space + 1 < text.size() &&
        text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": merge ", index,
       " is not a pair of tokens; want \"a b\" or [\"a\", \"b\"]; get the file again");
}

// One entry of the merge queue: `left` is a position in the list of symbols.
struct Candidate {
  std::int32_t rank, left, id;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

struct Symbol {
  std::int32_t id, previous, next;  // id -1: merged away
};

}  // namespace

BpeModel::BpeModel(const nlohmann::json& json, std::string_view subject) {
  if (!json.is_object())
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject,
         ": no \"model\"; want a BPE model; get the file again");
  const auto type = field_or<std::string>(json, "type", "BPE", subject);
  if (type != "BPE")
    fail_unknown_step(subject, "model type", type, "BPE (and SentencePiece from tokenizer.model)");
  if (field_or<double>(json, "dropout", 0.0, subject) != 0.0)
    fail_unknown_step(subject, "model field", "dropout", "BPE without dropout");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!field_or<std::string>(json, key, "", subject).empty())
      fail_unknown_step(subject, "model field", key, "BPE without it");
  }
  ignore_merges_ = field_or<bool>(json, "ignore_merges", false, subject);
  byte_fallback_ = field_or<bool>(json, "byte_fallback", false, subject);
  fuse_unknown_ = field_or<bool>(json, "fuse_unk", false, subject);

  if (!json.contains("vocab") || !json.at("vocab").is_object() || !json.contains("merges") ||
      !json.at("merges").is_array()) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject,
         ": the model lacks \"vocab\" or \"merges\"; want both; get the file again");
  }
  const auto& vocab = json.at("vocab");
  vocabulary_.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > kMaxId) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": token '", token, "' has id ", id.dump(),
           "; want an integer in [0, ", kMaxId, "]; get the file again");
    }
    vocabulary_.emplace(token, id.get<std::int32_t>());
  }
  const auto& merges = json.at("merges");
  merges_.reserve(merges.size());
  std::string joined;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto [left, right] = parse_merge(merges[i], i, subject);
    joined.assign(left).append(right);
    const auto left_id = id(left), right_id = id(right), joined_id = id(joined);
    if (!left_id || !right_id || !joined_id) {
      const std::string& missing = !left_id ? left : !right_id ? right : joined;
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": merge ", i, " needs token '", missing,
           "' that the vocabulary does not have; get the file again");
    }
    merges_[pair_key(*left_id, *right_id)] = {static_cast<std::int32_t>(i), *joined_id};
  }
  const auto unknown = field_or<std::string>(json, "unk_token", "", subject);
  if (!unknown.empty()) {
    unknown_ = id(unknown);
    if (!unknown_) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": unk_token '", unknown,
           "' is not in the vocabulary; get the file again");
    }
  }
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = id(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">").value_or(-1);
  }
}

std::optional<std::int32_t> BpeModel::id(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  if (found == vocabulary_.end()) return std::nullopt;
  return found->second;
}

const BpeModel::Merge* BpeModel::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// A character that the vocabulary lacks becomes its bytes when all of them have tokens, else the unknown
// token; without one it vanishes, as in the reference implementation.
void BpeModel::split_characters(std::string_view word, std::vector<std::int32_t>& symbols) const {
  bool pending_unknown = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t length = std::max<std::size_t>(utf8_length(word, at), 1);
    const std::string_view character = word.substr(at, length);
    at += length;
    if (const auto found = id(character)) {
      if (std::exchange(pending_unknown, false)) symbols.push_back(*unknown_);
      symbols.push_back(*found);
      continue;
    }
    if (byte_fallback_) {
      bool all = true;
      for (const char c : character) all = all && byte_ids_[static_cast<std::uint8_t>(c)] >= 0;
      if (all) {
        for (const char c : character) symbols.push_back(byte_ids_[static_cast<std::uint8_t>(c)]);
        continue;
      }
    }
    if (unknown_) {
      if (pending_unknown && !fuse_unknown_) symbols.push_back(*unknown_);
      pending_unknown = true;
    }
  }
  if (pending_unknown) symbols.push_back(*unknown_);
}

void BpeModel::encode(std::string_view word, std::vector<std::int32_t>& out) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto whole = id(word)) {
      out.push_back(*whole);
      return;
    }
  }
  std::vector<std::int32_t> initial;
  split_characters(word, initial);
  const auto count = static_cast<std::int32_t>(initial.size());
  std::vector<Symbol> symbols(initial.size());
  for (std::int32_t i = 0; i < count; ++i) symbols[i] = {initial[i], i - 1, i + 1 < count ? i + 1 : -1};

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    if (const Merge* merge = find_merge(symbols[left].id, symbols[right].id))
      queue.push({merge->rank, left, merge->id});
  };
  for (std::int32_t i = 0; i + 1 < count; ++i) offer(i, i + 1);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.left];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;  // one of the two has been merged since
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = top.left;
    offer(left.previous, top.left);
    offer(top.left, left.next);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.id >= 0) out.push_back(symbol.id);
  }
}

}  // namespace crumb::data
