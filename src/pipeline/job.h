// What decides the bytes of a result: two runs with equal jobs are the same run.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/checkpoint.h"
#include "pipeline/quantize_model.h"

namespace crumb::pipeline {

/// {"report_version", "model", "recipe", "calibration", "evaluation", "device", "threads"}. Models and data
/// are stood for by the content of their files, not by their place: a copy is the same job, another text
/// under the same name is not.
nlohmann::ordered_json describe_job(const QuantizeRequest& request, const formats::Checkpoint& checkpoint,
                                    const std::string& device, int threads);

/// SHA-256 of a file's size and bytes; of a file above 64 MiB only 4 KiB in every MiB, so that a model of
/// many gigabytes takes a second. Training changes every part of a tensor, so that two models, or two
/// corpora, do not agree in all of these places.
std::string file_fingerprint(const std::filesystem::path& file);

inline constexpr int kReportVersion = 2;

}  // namespace crumb::pipeline
