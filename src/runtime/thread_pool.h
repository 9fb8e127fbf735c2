// The threads of a decoding step: a hundred short loops, one after the other, some microseconds apart.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace crumb::runtime {

/// A fixed number of threads, the caller's among them. Between two loops the others spin for a moment,
/// because the next loop is usually microseconds away, and then sleep until they are woken. OpenMP is not
/// used: its threads spin for as long as an environment variable says, or not at all.
///
/// One loop at a time: run() may be called from one thread only.
class ThreadPool {
 public:
  static constexpr int kMostThreads = 1024;
  /// Two let a quick thread help a slow one without cutting the streams of weights much shorter.
  static constexpr int kPartsPerThread = 2;
  /// threads  0: as many as the process may use (its affinity mask). Throws InvalidArgument below 0 and above
  /// 1024. spin_us  microseconds of spinning before a thread sleeps
  explicit ThreadPool(int threads = 0, int spin_us = 50);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return count_; }

  /// body(begin, end, thread) on contiguous parts of [0, items): part p of P takes [items p / P, items (p +
  /// 1) / P), with P = threads() * kPartsPerThread, so the cut depends on the two numbers alone. Who does a
  /// part does not: thread t begins with its own ones, then takes over what nobody has begun, so that a
  /// thread that sleeps or was sent away by the system holds nobody up. `thread` in [0, threads()) is the one
  /// that does it; no two parts run with the same number at once. Empty parts are not called; a single item
  /// runs on the calling thread, which is thread 0.
  ///
  /// Returns when all parts are done. If parts throw, the exception of the lowest part is thrown again here
  /// and the pool stays usable.
  template <class Body>
  void run(std::int64_t items, const Body& body) {
    if (items <= 0) return;
    run_parts(
        items,
        [](const void* context, std::int64_t begin, std::int64_t end, int thread) {
          (*static_cast<const Body*>(context))(begin, end, thread);
        },
        &body);
  }

 private:
  using Part = void (*)(const void* context, std::int64_t begin, std::int64_t end, int thread);
  void run_parts(std::int64_t items, Part part, const void* context);
  void run_part(int part, int thread) noexcept;
  void take_parts(std::uint64_t generation, int thread) noexcept;
  void work(int thread);

  int count_ = 1, spin_us_ = 0;
  std::vector<std::thread> workers_;

  // The loop of the present generation. Written before the generation rises, read after a part of it was
  // claimed: until that part is done the caller does not return.
  std::int64_t items_ = 0;
  Part body_ = nullptr;
  const void* context_ = nullptr;
  std::vector<std::exception_ptr> failures_;  // of each part

  struct alignas(64) Claim {
    std::atomic<std::uint64_t> generation{0};  // the last one in which somebody took this part
  };
  std::vector<Claim> claims_;
  alignas(64) std::atomic<std::uint64_t> generation_{0};
  alignas(64) std::atomic<int> pending_{0};  // parts that are not done
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false}, caller_sleeps_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
};

/// Processors that this process may run on.
int usable_processors();

}  // namespace crumb::runtime
