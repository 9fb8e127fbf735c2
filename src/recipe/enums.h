// The words of each recipe choice, in one table per enum: to_string, parsing and the schema's lists all read
// it.
#pragma once
#include <array>
#include <string_view>
#include <utility>

#include "recipe/recipe.h"

namespace crumb::recipe {

template <class Enum>
struct EnumWords;

template <>
struct EnumWords<Stage> {
  static constexpr std::array kAll = {std::pair{Stage::kSmoothQuant, std::string_view("smoothquant")},
                                      std::pair{Stage::kAwq, std::string_view("awq")},
                                      std::pair{Stage::kOmniQuant, std::string_view("omniquant")},
                                      std::pair{Stage::kRounding, std::string_view("rounding")},
                                      std::pair{Stage::kGptq, std::string_view("gptq")},
                                      std::pair{Stage::kSignRound, std::string_view("signround")},
                                      std::pair{Stage::kBlockAp, std::string_view("block_ap")},
                                      std::pair{Stage::kE2eQp, std::string_view("e2e_qp")}};
};
template <>
struct EnumWords<RangeRule> {
  static constexpr std::array kAll = {std::pair{RangeRule::kMinMax, std::string_view("minmax")},
                                      std::pair{RangeRule::kErrorSearch, std::string_view("error_search")},
                                      std::pair{RangeRule::kClipSearch, std::string_view("clip_search")}};
};
template <>
struct EnumWords<Use> {
  static constexpr std::array kAll = {std::pair{Use::kAuto, std::string_view("auto")},
                                      std::pair{Use::kOn, std::string_view("on")},
                                      std::pair{Use::kOff, std::string_view("off")}};
};
template <>
struct EnumWords<InitMethod> {
  static constexpr std::array kAll = {
      std::pair{InitMethod::kMinMax, std::string_view("minmax")},
      std::pair{InitMethod::kAbsMax, std::string_view("absmax")},
      std::pair{InitMethod::kClipSearch, std::string_view("clip_search")},
      std::pair{InitMethod::kClipSearchActivation, std::string_view("clip_search_activation")}};
};
template <>
struct EnumWords<Selection> {
  static constexpr std::array kAll = {
      std::pair{Selection::kRandomDocuments, std::string_view("random_documents")},
      std::pair{Selection::kSequential, std::string_view("sequential")},
      std::pair{Selection::kShuffledChunks, std::string_view("shuffled_chunks")}};
};
template <>
struct EnumWords<StoreDtype> {
  static constexpr std::array kAll = {std::pair{StoreDtype::kF32, std::string_view("f32")},
                                      std::pair{StoreDtype::kBF16, std::string_view("bf16")}};
};
template <>
struct EnumWords<Precision> {
  static constexpr std::array kAll = {std::pair{Precision::kAuto, std::string_view("auto")},
                                      std::pair{Precision::kF32, std::string_view("f32")},
                                      std::pair{Precision::kBF16, std::string_view("bf16")}};
};
template <>
struct EnumWords<E2eLoss> {
  static constexpr std::array kAll = {std::pair{E2eLoss::kCrossEntropy, std::string_view("ce")},
                                      std::pair{E2eLoss::kKl, std::string_view("kl")}};
};
template <>
struct EnumWords<ScaleDtype> {
  static constexpr std::array kAll = {std::pair{ScaleDtype::kF16, std::string_view("f16")}};
};
template <>
struct EnumWords<quant::Grid> {
  static constexpr std::array kAll = {std::pair{quant::Grid::kAsym, std::string_view("asym")},
                                      std::pair{quant::Grid::kSignedSym, std::string_view("signed-sym")}};
};

template <>
struct EnumWords<quant::Granularity> {
  static constexpr std::array kAll = {
      std::pair{quant::Granularity::kPerToken, std::string_view("per_token")},
      std::pair{quant::Granularity::kPerTensor, std::string_view("per_tensor")},
      std::pair{quant::Granularity::kPerChannel, std::string_view("per_channel")}};
};

template <class Enum>
constexpr std::string_view word_of(Enum value) noexcept {
  for (const auto& [candidate, word] : EnumWords<Enum>::kAll) {
    if (candidate == value) return word;
  }
  return "?";
}

}  // namespace crumb::recipe
