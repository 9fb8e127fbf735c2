#include "pipeline/job.h"

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "base/str.h"
#include "io/mapped_file.h"
#include "pipeline/run_data.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kWhole = std::size_t{64} << 20, kStride = std::size_t{1} << 20, kPiece = 4096;

std::string hash_text(const std::string& text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

// The weight files and the files that a copy carries along.
std::string model_fingerprint(const formats::Checkpoint& checkpoint) {
  std::vector<fs::path> files = checkpoint.companion_files();
  if (fs::is_directory(checkpoint.path())) {
    for (const auto& entry : fs::directory_iterator(checkpoint.path())) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    }
  } else {
    files.push_back(checkpoint.path());
  }
  std::sort(files.begin(), files.end());
  std::string all;
  for (const fs::path& file : files)
    all += (files.size() == 1 ? "" : file.filename().string()) + " " + file_fingerprint(file) + "\n";
  return hash_text(all);
}

ordered_json describe_source(const std::string& spec) {
  ordered_json source = {{"source", spec}};
  const fs::path file = source_file(spec);
  if (fs::is_regular_file(file)) source["sha256"] = file_fingerprint(file);
  return source;
}

}  // namespace

std::string file_fingerprint(const fs::path& path) {
  const io::MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() <= kWhole) return sha256_hex(bytes);
  std::vector<std::byte> sample;
  for (std::size_t at = 0; at < bytes.size(); at += kStride) {
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    sample.insert(sample.end(), piece.begin(), piece.end());
  }
  return hash_text(cat(bytes.size(), " ", sha256_hex(sample)));
}

ordered_json describe_job(const QuantizeRequest& request, const formats::Checkpoint& checkpoint,
                          const std::string& device, int threads) {
  ordered_json evaluation = nullptr;
  if (!request.eval_spec.empty()) {
    evaluation = describe_source(request.eval_spec);
    evaluation.update({{"context", request.eval_context}, {"windows", request.eval_windows}});
  }
  return {{"report_version", kReportVersion},
          {"model",
           {{"holds", checkpoint.describe()},
            {"tensor_bytes", checkpoint.tensor_bytes()},
            {"config_sha256", hash_text(checkpoint.config_json())},
            {"files_sha256", model_fingerprint(checkpoint)}}},
          {"recipe", recipe::behavior_json(request.recipe)},
          {"calibration", describe_source(request.calib_spec)},
          {"evaluation", evaluation},
          {"device", device},
          {"threads", threads}};
}

}  // namespace crumb::pipeline
