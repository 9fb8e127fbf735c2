#include <curl/curl.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <spdlog/version.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <CLI/Version.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/cache_dir.h"
#include "base/memory_info.h"
#include "base/str.h"
#include "cli/command.h"
#include "kernels/gemm_bf16.h"
#include "kernels/isa.h"
#ifdef CRUMB_WITH_TORCH
#include "nn/mkl_dispatch.h"  // itself without torch headers
#endif

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

/// First value of `key` in /proc/cpuinfo; "" where there is none.
std::string cpuinfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) == 0 && line.find(':') != std::string::npos) {
      const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
      return begin == std::string::npos ? "" : line.substr(begin);
    }
  }
  return "";
}

ordered_json cpu_report() {
  // As the kernel reports them, so a feature that the system does not save the registers of is not listed.
  static constexpr const char* kFeatures[] = {"avx2",     "fma",         "f16c",        "avx512f",
                                              "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile",
                                              "amx_bf16", "amx_int8"};
  std::istringstream flags(cpuinfo("flags"));
  const std::vector<std::string> present{std::istream_iterator<std::string>(flags), {}};
  ordered_json features = ordered_json::object();
  for (const char* feature : kFeatures)
    features[feature] = std::find(present.begin(), present.end(), feature) != present.end();
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  ordered_json out;
  out["model"] = cpuinfo("model name");
  out["cores"] = std::thread::hardware_concurrency();
  out["usable_cores"] = known ? CPU_COUNT(&allowed) : static_cast<int>(std::thread::hardware_concurrency());
  out["features"] = std::move(features);
  out["kernels"] = kernels::machine_isas();
  out["precision"] = kernels::gemm_bf16_isa() == kernels::Isa::kAmx
                         ? "bf16"
                         : "f32";  // what a recipe's "auto" gives on the CPU (nn/compute.h)
  return out;
}

ordered_json torch_report() {
#ifdef CRUMB_WITH_TORCH
#ifndef CRUMB_TORCH_VERSION
#define CRUMB_TORCH_VERSION ""
#endif
  const char* dispatch = nn::mkl_takes_intel_path() ? "intel" : "vendor";
  return {{"present", true}, {"version", CRUMB_TORCH_VERSION}, {"mkl_dispatch", dispatch}};
#else
  return {{"present", false}, {"version", nullptr}};
#endif
}

ordered_json cache_report() {
  const std::filesystem::path folder = cache_dir();
  std::filesystem::path existing = folder;
  while (!existing.empty() && !std::filesystem::exists(existing) && existing != existing.parent_path())
    existing = existing.parent_path();
  std::error_code error;
  const auto space = std::filesystem::space(existing, error);
  ordered_json out;
  out["path"] = folder.string();
  out["exists"] = std::filesystem::exists(folder);
  out["writable"] = access(existing.c_str(), W_OK) == 0;
  out["free_bytes"] = error ? 0 : space.available;
  return out;
}

ordered_json dependency_report() {
  const curl_version_info_data* curl = curl_version_info(CURLVERSION_NOW);
  return {{"nlohmann_json", cat(NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".",
                                NLOHMANN_JSON_VERSION_PATCH)},
          {"cli11", CLI11_VERSION},
          {"spdlog", cat(SPDLOG_VER_MAJOR, ".", SPDLOG_VER_MINOR, ".", SPDLOG_VER_PATCH)},
          {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
          {"zlib", zlibVersion()},
          {"zstd", ZSTD_versionString()},
          {"libcurl", curl->version}};
}

ordered_json doctor_report() {
  ordered_json out;
  out["version"] = CRUMB_VERSION;
  out["compiler"] = cat("g++ ", __VERSION__);
  out["cpu"] = cpu_report();
  out["memory"] = {
      {"total_bytes", static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE)},
      {"available_bytes", available_bytes()}};
  out["torch"] = torch_report();
  out["cache_dir"] = cache_report();
  out["dependencies"] = dependency_report();
  return out;
}

std::string as_text(const ordered_json& r) {
  std::string features, libraries, notes;
  for (const auto& [name, present] : r["cpu"]["features"].items())
    features += cat(present.get<bool>() ? " " : " no-", name);
  for (const auto& [name, version] : r["dependencies"].items())
    libraries += cat(" ", name, " ", version.get<std::string>());
  if (!r["torch"]["present"].get<bool>())
    notes +=
        "\nnote: no torch in this build: quantize, eval and generate are missing; run scripts/setup.sh and "
        "build the release preset";
  if (!r["cache_dir"]["writable"].get<bool>())
    notes += "\nnote: the cache folder cannot be written; set CRUMB_CACHE to one that can";
  if (!r["cpu"]["features"]["avx2"].get<bool>()) notes += "\nnote: no AVX2: training will be slow here";
  const auto torch = r["torch"]["present"].get<bool>()
                         ? cat("present ", r["torch"]["version"].get<std::string>(), ", MKL dispatch ",
                               r["torch"]["mkl_dispatch"].get<std::string>())
                         : std::string("absent");
  return cat("crumb      ", r["version"].get<std::string>(), ", ", r["compiler"].get<std::string>(),
             "\ncpu        ", r["cpu"]["model"].get<std::string>(), ", ", r["cpu"]["usable_cores"].get<int>(),
             " of ", r["cpu"]["cores"].get<int>(), " cores usable\nfeatures  ", features, "\nkernels    ",
             r["cpu"]["kernels"].get<std::string>(), "\nprecision  ",
             r["cpu"]["precision"].get<std::string>(), " where a recipe says auto\nmemory     ",
             human_bytes(r["memory"]["available_bytes"].get<double>()), " of ",
             human_bytes(r["memory"]["total_bytes"].get<double>()), " available\ntorch      ", torch,
             "\ncache      ", r["cache_dir"]["path"].get<std::string>(), ", ",
             human_bytes(r["cache_dir"]["free_bytes"].get<double>()), " free\nlibraries ", libraries, notes);
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "what this machine and this build can do");
  command->add_flag("--json", *json, "print one JSON object");
  command->callback([json, &action] {
    action = [json] {
      const ordered_json report = doctor_report();
      *json ? print_json(report) : print_line(as_text(report));
      return 0;
    };
  });
}

}  // namespace crumb::cli
