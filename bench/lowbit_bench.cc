// Times the low-bit products beside plain reading of the same memory.
//
//   lowbit_bench [--bits 2,3,4,8] [--shape 4096x4096,11008x4096] [--m 1,4,16,512] [--group 64] [--grid
//   asym|signed-sym]
//                [--mode int8|exact] [--isa avx512_vnni,avx2] [--threads 1] [--megabytes 512] [--rounds 7]
//
// Each line: median over the rounds; GB/s of packed weights (codes, scales, zero points) and their fraction
// of the read bandwidth measured in the same round, in processor time of the slowest thread.
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "base/error.h"
#include "kernels/lowbit_speed.h"

namespace {

using namespace crumb::kernels;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

Isa parse_isa(const std::string& word) {
  for (const auto& variant : lowbit_variants()) {
    if (to_string(variant.isa) == word) return variant.isa;
  }
  crumb::fail(crumb::ErrorKind::kInvalidArgument, "lowbit_bench", "--isa ", word, ": no such variant");
}

LowbitSpeedOptions parse(int argc, char** argv) {
  LowbitSpeedOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--bits") {
      options.bits.clear();
      for (const std::string& part : split(value)) options.bits.push_back(std::atoi(part.c_str()));
    } else if (flag == "--shape") {
      options.shapes.clear();
      for (const std::string& part : split(value)) {
        const std::size_t x = part.find('x');
        options.shapes.emplace_back(std::atoll(part.c_str()), std::atoll(part.c_str() + x + 1));
      }
    } else if (flag == "--m") {
      options.m.clear();
      for (const std::string& part : split(value)) options.m.push_back(std::atoll(part.c_str()));
    } else if (flag == "--isa") {
      for (const std::string& part : split(value)) options.isas.push_back(parse_isa(part));
    } else if (flag == "--group") {
      options.group_size = std::atoll(value.c_str());
    } else if (flag == "--grid") {
      options.grid = crumb::quant::parse_grid(value);
    } else if (flag == "--mode") {
      options.mode = value == "exact" ? LowbitMode::kExact : LowbitMode::kInt8;
    } else if (flag == "--threads") {
      options.threads = std::atoi(value.c_str());
    } else if (flag == "--megabytes") {
      options.weight_bytes = std::atoll(value.c_str()) << 20;
    } else if (flag == "--rounds") {
      options.rounds = std::atoi(value.c_str());
    } else {
      crumb::fail(crumb::ErrorKind::kInvalidArgument, "lowbit_bench", "unknown option ", flag);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const LowbitSpeedOptions options = parse(argc, argv);
    std::printf("mode %s, group %lld, %s, %d threads, %lld MB of weights; machine: %s; compiler %s\n",
                std::string(to_string(options.mode)).c_str(), static_cast<long long>(options.group_size),
                std::string(crumb::quant::to_string(options.grid)).c_str(), options.threads,
                static_cast<long long>(options.weight_bytes >> 20), machine_isas().c_str(), __VERSION__);
    std::printf("%4s %12s %4s %-12s %10s %7s %7s %8s %8s %10s\n", "bits", "shape", "m", "isa", "us", "GB/s",
                "read", "fraction", "GOP/s", "prepare us");
    measure_lowbit(options, [](const LowbitSpeed& row) {
      std::printf("%4d %12s %4lld %-12s %10.1f %7.2f %7.2f %8.3f %8.1f %10.2f\n", row.bits,
                  (std::to_string(row.n) + "x" + std::to_string(row.k)).c_str(),
                  static_cast<long long>(row.m), std::string(to_string(row.isa)).c_str(), row.microseconds,
                  row.gbps, row.read_gbps, row.fraction_of_bandwidth, row.gops, row.prepare_microseconds);
      std::fflush(stdout);
    });
  } catch (const crumb::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return crumb::exit_code(error.kind());
  }
}
