// metrics.jsonl: every step of a run as it happens, for whoever watches it.
#pragma once
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace crumb::pipeline {

/// Appends lines to a file. It is an aid: what cannot be written is left out, and steps that a resumed run
/// takes again stand there again.
class Metrics {
 public:
  explicit Metrics(const std::filesystem::path& file) : out_(file, std::ios::app) {}
  void add(const nlohmann::ordered_json& line);

 private:
  std::ofstream out_;
};

}  // namespace crumb::pipeline
