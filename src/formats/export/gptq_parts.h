// The tensors that GPTQ and auto-round directories share.
#pragma once
#include "formats/export/directory.h"
#include "formats/gptq.h"

namespace crumb::formats {

class GptqPartsExporter : public DirectoryExporter {
 public:
  GptqPartsExporter(GptqZeros zeros, bool g_idx) : zeros_(zeros), g_idx_(g_idx) {}

 protected:
  std::vector<LinearPart> parts(const LinearPlan& plan) const final;
  std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                           const LinearPlan& plan) const final;
  GptqZeros zeros_;

 private:
  bool g_idx_;
};

/// Groups that GPTQModel's kernels take.
inline constexpr std::int64_t kGptqGroups[] = {-1, 16, 32, 64, 128, 256, 512, 1024};
/// GPTQModel refuses other N and K.
inline constexpr std::int64_t kGptqMultiple = 32;

}  // namespace crumb::formats
