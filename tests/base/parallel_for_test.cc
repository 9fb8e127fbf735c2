#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/error.h"

namespace crumb {
namespace {

class Threads {  // a number of threads for one test
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }

 private:
  int before_;
};

TEST(ParallelFor, VisitsEveryItemOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    const Threads scope(threads);
    for (const std::int64_t count : {0, 1, 2, 5, 64, 1001}) {
      for (const std::int64_t grain : {0, 1, 7, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
        parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        for (const auto& visit : visits)
          ASSERT_EQ(visit, 1) << threads << " threads, " << count << " items, grain " << grain;
      }
    }
  }
}

TEST(ParallelFor, UsesSeveralThreadsAndHonorsTheGrain) {
  const Threads scope(4);
  std::atomic<int> parts = 0;
  const auto count_parts = [&](std::int64_t, std::int64_t) { ++parts; };
  parallel_for(100, 1, count_parts);
  EXPECT_EQ(parts, 4);
  parts = 0;
  parallel_for(100, 50, count_parts);
  EXPECT_EQ(parts, 2);
  parts = 0;
  parallel_for(-3, 1, count_parts);
  EXPECT_EQ(parts, 0);
}

TEST(ParallelFor, ANestedLoopRunsWhole) {
  const Threads scope(3);
  std::atomic<int> total = 0, inner_parts = 0;
  parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
    parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) {
      ++inner_parts;
      total += static_cast<int>(end - begin);
    });
  });
  EXPECT_EQ(total, 30);
  EXPECT_EQ(inner_parts, 3);
}

TEST(ParallelFor, ThrowsWhatAPartThrows) {
  for (const int threads : {1, 4}) {
    const Threads scope(threads);
    EXPECT_THROW(parallel_for(100, 1,
                              [](std::int64_t, std::int64_t end) {
                                if (end == 100) fail(ErrorKind::kNumerics, "test", "the last part");
                              }),
                 Error);
  }
}

}  // namespace
}  // namespace crumb
