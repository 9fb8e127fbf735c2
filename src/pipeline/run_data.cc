#include "pipeline/run_data.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "pipeline/self_text.h"

namespace crumb::pipeline {

using data::check_ids;
using data::corpus_of;
using data::need_tokenizer;
using data::token_spec;
using data::TokenSpec;
using data::TokenWindows;

namespace {

data::Selection selection_of(recipe::Selection selection) {
  switch (selection) {
    case recipe::Selection::kRandomDocuments:
      return data::Selection::kRandomDocuments;
    case recipe::Selection::kSequential:
      return data::Selection::kSequential;
    case recipe::Selection::kShuffledChunks:
      return data::Selection::kShuffledChunks;
  }
  return data::Selection::kSequential;
}

std::int64_t e2e_windows(const recipe::Recipe& r) {
  const recipe::E2eQp& how = r.e2e_qp;
  return r.has(recipe::Stage::kE2eQp)
             ? std::min(how.samples, how.resolved_steps() * how.batch * how.accumulation)
             : 0;
}

// Rows [begin, begin + count) cut to `columns`; throws when there are fewer.
TokenWindows take(const TokenWindows& from, std::int64_t begin, std::int64_t count, std::int64_t columns,
                  std::string_view what, const std::string& spec) {
  if (begin + count > from.rows || columns > from.columns) {
    fail(ErrorKind::kInvalidArgument, "pipeline.calibration", spec, ": holds ", from.rows, " windows of ",
         from.columns, " tokens; ", what, " wants ", begin + count, " of ", columns,
         "; lower the recipe's samples or tokens (--set), or give more text");
  }
  return from.slice(begin, begin + count, columns);
}

CalibrationData from_tokens(const TokenSpec& spec, const recipe::Recipe& r, std::int64_t vocab_size) {
  CalibrationData data;
  const auto& c = r.calibration;
  const auto read = [&](const std::string& name) {
    return data::read_token_file(spec.file + ":" + name, 0, vocab_size);
  };
  if (!spec.name.empty()) {
    const TokenWindows all = read(spec.name);
    data.train = take(all, 0, c.samples, c.tokens, "calibration.samples", spec.file);
    data.validation = take(all, c.samples, c.validation_samples, c.tokens,
                           "calibration.samples + validation_samples", spec.file);
    data.e2e = take(all, 0, e2e_windows(r), r.e2e_qp.tokens, "e2e_qp.samples", spec.file);
    return data;
  }
  const io::SafetensorsFile file(spec.file);
  if (const io::TensorInfo* rows = file.find("train");
      rows != nullptr && rows->shape.size() == 2 && rows->shape[1] > c.tokens) {
    log::warn("[pipeline.calibration] ", spec.file, ": rows of ", rows->shape[1],
              " tokens; calibration.tokens is ", c.tokens,
              ", the rest of each is not used (--set calibration.tokens=", rows->shape[1], ")");
  }
  const std::string validation = file.find("validation") != nullptr ? "validation" : "val";
  data.train = take(read("train"), 0, c.samples, c.tokens, "calibration.samples", spec.file + ":train");
  if (c.validation_samples > 0) {
    data.validation = take(read(validation), 0, c.validation_samples, c.tokens,
                           "calibration.validation_samples", spec.file + ":" + validation);
  }
  if (e2e_windows(r) > 0)
    data.e2e = take(read("e2e"), 0, e2e_windows(r), r.e2e_qp.tokens, "e2e_qp.samples", spec.file + ":e2e");
  return data;
}

}  // namespace

std::filesystem::path source_file(const std::string& spec) {
  if (const auto tokens = token_spec(spec)) return tokens->file;
  return spec == "self" || data::is_named_corpus(spec) ? std::filesystem::path()
                                                       : std::filesystem::path(spec);
}

std::string CalibrationData::content_hash() const {
  const std::string all = train.content_hash() + validation.content_hash() + e2e.content_hash();
  return sha256_hex(std::as_bytes(std::span(all)));
}

CalibrationData prepare_calibration(const std::string& spec, const recipe::Recipe& r,
                                    const data::Tokenizer* tokenizer, std::int64_t vocab_size,
                                    const std::function<std::unique_ptr<model::LanguageModel>()>& teacher) {
  if (const auto tokens = token_spec(spec)) return from_tokens(*tokens, r, vocab_size);
  const auto& c = r.calibration;
  CalibrationData data;
  const std::int64_t wanted = e2e_windows(r);
  if (spec == "self") {
    const auto lm = teacher();
    const TokenWindows block =
        sample_self_text(*lm, tokenizer, c.samples + c.validation_samples, c.tokens, c.seed);
    data.train = block.slice(0, c.samples, c.tokens);
    data.validation = block.slice(c.samples, c.samples + c.validation_samples, c.tokens);
    if (wanted > 0) data.e2e = sample_self_text(*lm, tokenizer, wanted, r.e2e_qp.tokens, r.e2e_qp.seed);
    return data;
  }
  const data::Tokenizer& t = need_tokenizer(tokenizer, spec);
  const data::Corpus corpus = corpus_of(spec, false);
  data::WindowSplit split = data::select_windows(corpus, t, selection_of(c.selection), c.samples,
                                                 c.validation_samples, c.tokens, c.seed);
  data.train = std::move(split.train);
  data.validation = std::move(split.validation);
  if (wanted > 0) {
    data.e2e = data::select_windows(corpus, t, selection_of(r.e2e_qp.selection), wanted, 0, r.e2e_qp.tokens,
                                    r.e2e_qp.seed)
                   .train;
  }
  for (const TokenWindows* windows : {&data.train, &data.validation, &data.e2e})
    check_ids(*windows, vocab_size, spec);
  return data;
}

namespace {

void add(std::vector<io::TensorToWrite>& tensors, const std::string& name, const TokenWindows& windows) {
  if (windows.rows == 0) return;
  tensors.push_back({name, DType::kI32, {windows.rows, windows.columns}, [&windows] {
                       return io::bytes_of(std::span<const std::int32_t>(windows.ids));
                     }});
}

}  // namespace

void save_calibration(const std::filesystem::path& path, const CalibrationData& data) {
  std::vector<io::TensorToWrite> tensors;
  add(tensors, "train", data.train);
  add(tensors, "validation", data.validation);
  add(tensors, "e2e", data.e2e);
  io::write_safetensors_atomically(path, std::move(tensors), {{"format", "crumb calibration tokens 1"}});
}

CalibrationData load_calibration(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  const auto read = [&](const char* name) {
    TokenWindows windows;
    if (const io::TensorInfo* info = file.find(name))
      windows = {info->shape.at(0), info->shape.at(1), file.read_i32(name), path.string()};
    return windows;
  };
  return {read("train"), read("validation"), read("e2e")};
}

}  // namespace crumb::pipeline
