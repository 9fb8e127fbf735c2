// How fast a model can run at best: bytes that must be read and operations that must be made, over what a
// machine does of each in a second.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/kv_store.h"
#include "model/config.h"
#include "quant/spec.h"

namespace crumb::runtime {

struct RooflineModel {
  model::ModelConfig config;
  std::optional<quant::AffineSpec> spec;  // of the block linears; nullopt: floats
  std::int64_t float_bytes = 2;           // of a number that is no code
  int head_bits = 0;                      // 0: float; 8, 6 or 4
  kernels::KvFormat kv_format = kernels::KvFormat::kF16;
};

/// Of all threads together. Operations count a multiplication and an addition as two.
struct MachineRates {
  int threads = 1;
  double read_gbps = 0;                     // memory of the model's size
  double linear_share = 0, head_share = 0;  // of read_gbps, what the products reach on weights of that size
  double int8_decode_gops = 0;              // low-bit products of one row, weights in the first caches
  double int8_prompt_gops = 0;              // of many rows
  double dense_decode_gflops = 0;           // dense products of one row, f16 weights in the first caches
  double f32_gflops = 0;                    // dense products of many rows, attention
  double synchronization_us = 0;            // of one loop over all threads
};

/// Bytes that a decoding step reads of weights: linears of the blocks, and the head.
std::int64_t block_linear_bytes(const RooflineModel& model);
std::int64_t head_bytes(const RooflineModel& model);

/// Measures what `wanted` leaves at 0, for this model, in about five seconds; with a bandwidth given, shares
/// left at 0 are 1. Processor time where the machine is shared (memory_speed.h), so that other programs count
/// little. Throws OutOfMemory.
MachineRates measure_machine(const RooflineModel& model, MachineRates wanted);

struct RooflinePart {
  std::string name;           // "block linears", "head", "attention", "activations", "synchronization"
  double bytes = 0, ops = 0;  // of one decoded token, or of the whole prompt
  double gops_limit = 0;      // the rate that `ops` are measured by
  double seconds = 0;         // the larger of the two
  std::string bound;          // what took it: "bandwidth", "int8", "f32", "threads"
};

struct RooflinePrediction {
  std::vector<RooflinePart> decode, prompt;  // in the order of a pass
  double decode_tokens_per_second = 0, prompt_tokens_per_second = 0;
  std::string decode_bound, prompt_bound;  // of the part that takes longest: "block linears: bandwidth"
};

/// Decoding at `context` tokens, a prompt of `prompt` tokens in passes of 256.
///
///   seconds of a part = max(bytes / (read_gbps * share), ops / rate)
///
/// and those of a token or prompt are the sum over its parts:
///
///   - block linears: packed bytes once a pass; 2 N K operations a token
///   - head: once a token, in a prompt once
///   - attention: keys and values of the context (in a prompt of half of it), 4 H D operations each
///   - activations: about 30 hidden-sized and 4 mlp-sized f32 vectors a block, read or written
///   - synchronization: 5 loops a block and 1 for the head; in a prompt 11 a block and pass
RooflinePrediction predict(const RooflineModel& model, const MachineRates& rates, std::int64_t context,
                           std::int64_t prompt);

/// The picture: attainable operations a second over operations a byte, with both passes' parts as points.
std::string roofline_svg(const RooflineModel& model, const MachineRates& rates,
                         const RooflinePrediction& prediction, const std::string& title);

}  // namespace crumb::runtime
