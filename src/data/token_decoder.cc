#include "data/token_decoder.h"

#include <utility>

#include "data/byte_alphabet.h"
#include "data/json_fields.h"
#include "data/regex.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::string_view kKnown = "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace";

std::string concatenate(const std::vector<std::string>& tokens) {
  std::string out;
  for (const std::string& token : tokens) out += token;
  return out;
}

class ByteLevelDecoder final : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens, bool raw) const override {
    std::string bytes;
    for (const std::string& token : tokens) {
      const auto decoded = from_byte_alphabet(token);
      bytes += decoded ? *decoded : token;  // added tokens may hold characters outside of the alphabet
    }
    tokens = {raw ? std::move(bytes) : replace_invalid_utf8(bytes)};
  }
};

class ByteFallbackDecoder final : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens, bool raw) const override {
    std::vector<std::string> out;
    std::string run;
    const auto flush = [&] {
      if (run.empty()) return;
      if (raw || find_invalid_utf8(run) == std::string::npos) {
        out.push_back(run);
      } else {
        for (std::size_t i = 0; i < run.size(); ++i) out.emplace_back("\xEF\xBF\xBD");
      }
      run.clear();
    };
    for (std::string& token : tokens) {
      const int byte = byte_token_value(token);
      if (byte >= 0) {
        run += static_cast<char>(byte);
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }
};

class FuseDecoder final : public DecoderStep {
 public:
  void apply(std::vector<std::string>& tokens, bool) const override { tokens = {concatenate(tokens)}; }
};

class ReplaceDecoder final : public DecoderStep {
 public:
  ReplaceDecoder(Regex regex, std::string content) : regex_(std::move(regex)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens, bool) const override {
    std::vector<TextRange> matches;
    for (std::string& token : tokens) {
      if (find_invalid_utf8(token) != std::string::npos) continue;
      matches.clear();
      regex_.find_all(token, matches);
      for (auto match = matches.rbegin(); match != matches.rend(); ++match)
        token.replace(match->begin, match->end - match->begin, content_);
    }
  }

 private:
  Regex regex_;
  std::string content_;
};

class StripDecoder final : public DecoderStep {
 public:
  StripDecoder(std::string content, std::size_t start, std::size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void apply(std::vector<std::string>& tokens, bool) const override {
    for (std::string& token : tokens) {
      for (std::size_t i = 0; i < start_ && token.starts_with(content_); ++i) token.erase(0, content_.size());
      for (std::size_t i = 0; i < stop_ && token.ends_with(content_); ++i)
        token.erase(token.size() - content_.size());
    }
  }

 private:
  std::string content_;
  std::size_t start_, stop_;
};

class MetaspaceDecoder final : public DecoderStep {
 public:
  MetaspaceDecoder(std::string mark, bool prepended) : mark_(std::move(mark)), prepended_(prepended) {}
  void apply(std::vector<std::string>& tokens, bool) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::string_view with = i == 0 && prepended_ ? "" : " ";
      std::string out;
      for (std::size_t at = 0; at < tokens[i].size();) {
        if (std::string_view(tokens[i]).substr(at).starts_with(mark_)) {
          out += with;
          at += mark_.size();
        } else {
          out += tokens[i][at++];
        }
      }
      tokens[i] = std::move(out);
    }
  }

 private:
  std::string mark_;
  bool prepended_;
};

}  // namespace

int byte_token_value(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

TokenDecoder::TokenDecoder(const nlohmann::json& json, std::string_view subject)
    : joins_with_space_(json.is_null()) {
  add(json, subject);
}

void TokenDecoder::add(const nlohmann::json& json, std::string_view subject) {
  if (json.is_null()) return;
  const std::string type = step_type(json, subject, "decoder");
  if (type == "Sequence") {
    for (const auto& step : field<nlohmann::json>(json, "decoders", subject)) add(step, subject);
  } else if (type == "ByteLevel") {
    steps_.push_back(std::make_unique<ByteLevelDecoder>());
  } else if (type == "ByteFallback") {
    steps_.push_back(std::make_unique<ByteFallbackDecoder>());
  } else if (type == "Fuse") {
    steps_.push_back(std::make_unique<FuseDecoder>());
  } else if (type == "Replace") {
    steps_.push_back(std::make_unique<ReplaceDecoder>(Regex(pattern_expression(json, subject), subject),
                                                      field<std::string>(json, "content", subject)));
  } else if (type == "Strip") {
    steps_.push_back(std::make_unique<StripDecoder>(field<std::string>(json, "content", subject),
                                                    field<std::uint32_t>(json, "start", subject),
                                                    field<std::uint32_t>(json, "stop", subject)));
  } else if (type == "Metaspace") {
    const bool legacy = field_or<bool>(json, "add_prefix_space", true, subject);
    const auto scheme = field_or<std::string>(json, "prepend_scheme", legacy ? "always" : "never", subject);
    steps_.push_back(std::make_unique<MetaspaceDecoder>(
        field_or<std::string>(json, "replacement", "\xE2\x96\x81", subject), scheme != "never"));
  } else {
    fail_unknown_step(subject, "decoder", type, kKnown);
  }
}

std::string TokenDecoder::decode(std::vector<std::string> tokens, bool raw) const {
  for (const auto& step : steps_) step->apply(tokens, raw);
  if (!joins_with_space_) return concatenate(tokens);
  std::string out;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ' ';
    out += tokens[i];
  }
  return out;
}

}  // namespace crumb::data
