// The one way to split a loop over threads: OpenMP, the runtime that libtorch uses too.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

#include <omp.h>

namespace crumb {

/// Calls body(begin, end) on contiguous parts of [0, count), at least `grain` items each. The split depends
/// only on count, grain and the number of threads. An exception of a part is thrown again here, the first one
/// if there are several.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
  if (count <= 0) return;
  const std::int64_t parts =
      std::min<std::int64_t>(omp_get_max_threads(), (count + grain - 1) / std::max<std::int64_t>(grain, 1));
  if (parts <= 1 || omp_in_parallel()) {
    body(std::int64_t{0}, count);
    return;
  }
  std::exception_ptr failure;
  std::mutex mutex;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
  for (std::int64_t part = 0; part < parts; ++part) {
    try {
      body(count * part / parts, count * (part + 1) / parts);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// While it lives, parallel_for on this thread runs its body on this thread alone: for callers that are one of many
/// threads already.
class SerialLoops {
 public:
  SerialLoops() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SerialLoops() { omp_set_num_threads(threads_); }
  SerialLoops(const SerialLoops&) = delete;
  SerialLoops& operator=(const SerialLoops&) = delete;

 private:
  int threads_;  // OpenMP keeps this number for each thread
};

}  // namespace crumb
