#include "nn/mkl_dispatch.h"

#include <cstdlib>
#include <string_view>

namespace crumb::nn {

bool mkl_takes_intel_path() noexcept {
  static const bool intel = [] {
    const char* word = std::getenv("CRUMB_MKL_DISPATCH");
    return word == nullptr || std::string_view(word) != "vendor";
  }();
  return intel;
}

}  // namespace crumb::nn

// MKL asks this function of its own; the executable's definition is found before the library's. An MKL that
// does not ask it is not affected.
extern "C" int mkl_serv_intel_cpu_true() {
  return crumb::nn::mkl_takes_intel_path() ? 1 : 0;
}
