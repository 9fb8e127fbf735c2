// How an operation lists its variants: an explicit array, best first, "ref" last.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace crumb::kernels {

/// `run` is a table of function pointers, the same type for all variants of an operation; nullptr where this
/// build has no such variant.
template <class Functions>
struct Variant {
  Isa isa;
  const Functions* run;
};

/// The first usable one. The list ends with ref, which always is. Throws through isa_limit().
template <class Functions>
const Variant<Functions>& choose(std::span<const Variant<Functions>> variants) {
  for (const auto& variant : variants) {
    if (variant.run != nullptr && usable(variant.isa)) return variant;
  }
  return variants.back();
}

/// One line of `crumb doctor`: an operation, the variants that this build has, and the one that would run
/// now.
struct OperationInfo {
  std::string operation;
  std::vector<Isa> built;  // best first
  Isa active;
};
std::vector<OperationInfo> list_operations();

}  // namespace crumb::kernels
