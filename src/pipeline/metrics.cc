#include "pipeline/metrics.h"

#include <nlohmann/json.hpp>

namespace crumb::pipeline {

void Metrics::add(const nlohmann::ordered_json& line) {
  out_.clear();
  out_ << line.dump() << '\n' << std::flush;
}

}  // namespace crumb::pipeline
