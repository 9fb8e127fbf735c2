#include "base/str.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace crumb {
namespace {

TEST(Str, CatPrintsPartsInOrder) {
  EXPECT_EQ(cat("a", 1, ' ', 2.5, std::string("b")), "a1 2.5b");
}

TEST(Str, ShapeAndJoin) {
  EXPECT_EQ(shape_string(std::array<int, 3>{2, 64, 128}), "[2, 64, 128]");
  EXPECT_EQ(shape_string(std::vector<int>{}), "[]");
  EXPECT_EQ(join({"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
}

TEST(Str, HumanBytesKeepsThreeDigits) {
  EXPECT_EQ(human_bytes(12), "12 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(1.4 * 1024 * 1024 * 1024), "1.40 GiB");
  EXPECT_EQ(human_bytes(12.3 * 1024 * 1024), "12.3 MiB");
  EXPECT_EQ(human_bytes(512.0 * 1024), "512 KiB");
}

TEST(Str, HumanSecondsChangesUnit) {
  EXPECT_EQ(human_seconds(12.34), "12.3 s");
  EXPECT_EQ(human_seconds(200), "3 min 20 s");
  EXPECT_EQ(human_seconds(3840), "1 h 04 min");
  EXPECT_EQ(human_seconds(std::nan("")), "?");
  EXPECT_EQ(human_seconds(-1), "?");
}

TEST(Str, FixedRoundsToDigits) {
  EXPECT_EQ(fixed(3.14159, 2), "3.14");
  EXPECT_EQ(fixed(2, 0), "2");
}

TEST(NearestWord, FindsATypoAndRefusesAStranger) {
  const std::vector<std::string> words = {"group_size", "bits", "learning_rate"};
  EXPECT_EQ(nearest_word("group-size", words), "group_size");
  EXPECT_EQ(nearest_word("bit", words), "bits");
  EXPECT_EQ(nearest_word("zzzzzz", words), "");
  EXPECT_EQ(nearest_word("bits", {}), "");
}

}  // namespace
}  // namespace crumb
