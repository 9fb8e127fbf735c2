#include "runtime/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "support/expect_error.h"

namespace crumb::runtime {
namespace {

TEST(ThreadPool, CutsIntoContiguousPartsThatDependOnTheNumbersAlone) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::int64_t items : {1, 2, 5, 7, 100}) {
      std::vector<int> calls(static_cast<std::size_t>(items), 0);
      std::vector<std::int64_t> begins(static_cast<std::size_t>(items), -1);
      std::atomic<int> bad_thread{0};
      pool.run(items, [&](std::int64_t begin, std::int64_t end, int thread) {
        if (thread < 0 || thread >= threads) ++bad_thread;
        for (std::int64_t i = begin; i < end; ++i) {
          ++calls[static_cast<std::size_t>(i)];
          begins[static_cast<std::size_t>(i)] = begin;
        }
      });
      EXPECT_EQ(bad_thread, 0);
      const std::int64_t parts = threads == 1 || items == 1 ? 1 : threads * ThreadPool::kPartsPerThread;
      for (std::int64_t i = 0; i < items; ++i) {
        EXPECT_EQ(calls[static_cast<std::size_t>(i)], 1);
        std::int64_t part = 0;
        while (items * (part + 1) / parts <= i) ++part;
        EXPECT_EQ(begins[static_cast<std::size_t>(i)], items * part / parts) << i << " of " << items;
      }
    }
    pool.run(0, [](std::int64_t, std::int64_t, int) { FAIL(); });
  }
}

TEST(ThreadPool, NoTwoPartsRunAtOnceUnderOneThreadsNumber) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<int> clashes{0};
  for (int round = 0; round < 2000; ++round) {
    pool.run(8, [&](std::int64_t, std::int64_t, int thread) {
      if (busy[static_cast<std::size_t>(thread)]++ != 0) ++clashes;
      --busy[static_cast<std::size_t>(thread)];
    });
  }
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, ManyShortLoopsSeeEachOthersResults) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(64, 0);
  for (int round = 0; round < 20000; ++round) {
    pool.run(64, [&](std::int64_t begin, std::int64_t end, int) {
      // Reads what another thread wrote in the round before.
      for (std::int64_t i = begin; i < end; ++i) {
        if (round % 2 == 0 ? i < 32 : i >= 32)
          values[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(63 - i)] + 1;
      }
    });
  }
  EXPECT_EQ(values[0], 19999);
  EXPECT_EQ(values[63], 20000);
}

TEST(ThreadPool, SleepersWakeAgain) {
  ThreadPool pool(3, 1);
  std::atomic<int> calls{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // beyond the spinning
    pool.run(6, [&](std::int64_t, std::int64_t, int thread) {
      if (thread != 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that the caller sleeps too
      ++calls;
    });
  }
  EXPECT_EQ(calls, 120);
}

TEST(ThreadPool, TheLowestPartsExceptionArrivesAndThePoolGoesOn) {
  ThreadPool pool(4);
  for (int round = 0; round < 50; ++round) {
    try {
      pool.run(4, [](std::int64_t begin, std::int64_t, int) {
        if (begin >= 1) throw std::runtime_error("part " + std::to_string(begin));
      });
      FAIL() << "nothing thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "part 1");
    }
    std::atomic<std::int64_t> sum{0};
    pool.run(10, [&](std::int64_t begin, std::int64_t end, int) { sum += end - begin; });
    EXPECT_EQ(sum, 10);
  }
}

TEST(ThreadPool, RefusesImpossibleCounts) {
  EXPECT_GE(ThreadPool(0).threads(), 1);
  EXPECT_EQ(ThreadPool(0).threads(), usable_processors());
  for (const int threads : {-1, 1025, 1 << 20}) {
    test::expect_error(ErrorKind::kInvalidArgument, {std::to_string(threads), "1 … 1024"},
                       [&] { ThreadPool pool(threads); });
  }
}

}  // namespace
}  // namespace crumb::runtime
