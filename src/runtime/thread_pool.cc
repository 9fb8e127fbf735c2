#include "runtime/thread_pool.h"

#include <sched.h>

#include <chrono>

#include "base/error.h"

namespace crumb::runtime {
namespace {

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// Whether `ready` became true within some microseconds. The clock is read every 64 rounds, and whoever else
/// wants this processor gets it: on a machine with other work that may be the very thread that is waited for.
template <class Ready>
bool spin_until(int microseconds, const Ready& ready) {
  using Clock = std::chrono::steady_clock;
  if (ready()) return true;
  const auto end = Clock::now() + std::chrono::microseconds(microseconds);
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      pause_briefly();
    }
    if (Clock::now() >= end) return false;
    sched_yield();
  }
}

int checked(int threads) {
  if (threads < 0 || threads > ThreadPool::kMostThreads) {
    fail(ErrorKind::kInvalidArgument, "runtime.thread_pool", threads, " threads: out of range; want 1 … ",
         ThreadPool::kMostThreads, ", or 0 for all ", usable_processors(), " processors");
  }
  return threads == 0 ? usable_processors() : threads;
}

}  // namespace

int usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
    return std::min(CPU_COUNT(&set), ThreadPool::kMostThreads);
  return std::max(1,
                  std::min(static_cast<int>(std::thread::hardware_concurrency()), ThreadPool::kMostThreads));
}

ThreadPool::ThreadPool(int threads, int spin_us)
    : count_(checked(threads)),
      spin_us_(spin_us),
      failures_(static_cast<std::size_t>(count_ * kPartsPerThread)),
      claims_(failures_.size()) {
  workers_.reserve(static_cast<std::size_t>(count_ - 1));
  try {
    for (int i = 1; i < count_; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& error) {
    const std::size_t started = workers_.size();
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    fail(ErrorKind::kOutOfMemory, "runtime.thread_pool", count_, " threads: only ", started + 1,
         " could be started (", error.what(), "); ask for fewer");
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_part(int part, int thread) noexcept {
  const std::int64_t parts = count_ * kPartsPerThread;
  const std::int64_t begin = items_ * part / parts, end = items_ * (part + 1) / parts;
  if (begin == end) return;
  try {
    body_(context_, begin, end, thread);
  } catch (...) {
    failures_[static_cast<std::size_t>(part)] = std::current_exception();
  }
}

void ThreadPool::take_parts(std::uint64_t generation, int thread) noexcept {
  const int parts = count_ * kPartsPerThread;
  for (int i = 0; i < parts; ++i) {
    const int part = (thread * kPartsPerThread + i) % parts;
    std::uint64_t before = generation - 1;
    if (!claims_[static_cast<std::size_t>(part)].generation.compare_exchange_strong(before, generation))
      continue;
    run_part(part, thread);
    if (pending_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
      const std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }
}

void ThreadPool::run_parts(std::int64_t items, Part body, const void* context) {
  if (count_ == 1 || items == 1) {
    body(context, 0, items, 0);
    return;
  }
  items_ = items;
  body_ = body;
  context_ = context;
  pending_.store(count_ * kPartsPerThread, std::memory_order_relaxed);
  // Sequentially consistent against the sleepers' own order: either they see the new generation, or we see
  // them.
  const std::uint64_t generation = generation_.fetch_add(1) + 1;
  if (sleepers_.load() > 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  take_parts(generation, 0);
  if (!spin_until(spin_us_, [&] { return pending_.load(std::memory_order_acquire) == 0; })) {
    std::unique_lock lock(mutex_);
    caller_sleeps_ = true;
    done_.wait(lock, [&] { return pending_.load() == 0; });
    caller_sleeps_ = false;
  }
  std::exception_ptr first;
  for (std::exception_ptr& failure : failures_) {
    if (failure && !first) first = failure;
    failure = nullptr;
  }
  if (first) std::rethrow_exception(first);
}

void ThreadPool::work(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    const auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(spin_us_, [&] { return called() || stop_.load(std::memory_order_relaxed); }) ||
        !called()) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen || stop_.load(); });
      sleepers_.fetch_sub(1);
      if (generation_.load() == seen) return;  // stopped
    }
    seen = generation_.load(std::memory_order_acquire);  // whoever came late skips what the others did
    take_parts(seen, thread);
  }
}

}  // namespace crumb::runtime
