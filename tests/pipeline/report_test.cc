#include "pipeline/report.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "base/memory_info.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;

std::int64_t peak(const Meter& meter) {
  return meter.finish()["peak_rss_bytes"];
}

TEST(Meter, RemembersThePeakOfAPieceThatEnded) {
  if (!reset_peak_resident()) GTEST_SKIP() << "this system does not let a process reset its peak";
  constexpr std::int64_t kBytes = 200'000'000;
  const Meter whole;
  const std::int64_t before = peak(whole);
  {
    const Meter large;
    const std::vector<char> memory(kBytes, 1);
    EXPECT_GE(peak(large), before / 2 + kBytes) << static_cast<int>(memory[5]);
  }
  const Meter small;
  EXPECT_LT(peak(small), kBytes) << "the large piece's memory was given back";
  EXPECT_GE(peak(whole), kBytes) << "the whole contains the large piece";
}

TEST(TotalCost, AddsTimesAndTakesTheLargestPeak) {
  const ordered_json rows = {{{"seconds", 1.5}, {"peak_rss_bytes", 70}},
                             {{"seconds", 2.0}, {"peak_rss_bytes", 90}},
                             {{"seconds", 0.25}, {"peak_rss_bytes", 10}}};
  EXPECT_EQ(total_cost(rows), (ordered_json{{"seconds", 3.75}, {"peak_rss_bytes", 90}}));
}

TEST(StageRow, CountsBitsAndLeavesOutWhatWasNotMeasured) {
  const ordered_json row = stage_row("rtn", nullptr, 300, 800, {{"seconds", 1.0}});
  EXPECT_EQ(row["bits_per_weight"], 3.0);
  EXPECT_TRUE(row["ppl"].is_null());
  EXPECT_FALSE(row.contains("evaluation"));
  EXPECT_TRUE(finite_or_null(std::numeric_limits<double>::quiet_NaN()).is_null());
}

}  // namespace
}  // namespace crumb::pipeline
