#include "quant/spec.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace crumb::quant {
namespace {

using test::expect_error;

TEST(AffineSpec, CountsCodesAndGroups) {
  EXPECT_EQ((AffineSpec{3, 64}).max_code(), 7);
  EXPECT_EQ((AffineSpec{2, 64}).groups(576), 9);
  EXPECT_EQ((AffineSpec{2, -1}).groups(576), 1);
  EXPECT_EQ((AffineSpec{2, -1}).group_of(576), 576);
  EXPECT_EQ(scheme_name({2, 64}), "w2g64");
  EXPECT_EQ(scheme_name({4, -1}), "w4");
}

TEST(AffineSpec, AcceptsWhatFits) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {32, 64, 576, -1})
      EXPECT_NO_THROW(check_spec({bits, group}, 576, "q_proj"));
  }
}

TEST(AffineSpec, RefusesAGroupThatDoesNotDivideAndNamesThoseThatDo) {
  expect_error(ErrorKind::kInvalidArgument, {"down_proj", "128", "576", "32, 64"}, [] {
    check_spec({2, 128}, 576, "down_proj");
  });
}

TEST(AffineSpec, RefusesOtherBitsAndGroups) {
  for (const int bits : {-1, 0, 1, 5, 7, 16}) {
    expect_error(ErrorKind::kInvalidArgument, {"q_proj", std::to_string(bits)}, [&] {
      check_spec({bits, 64}, 576, "q_proj");
    });
  }
  for (const std::int64_t group : {0, -2}) {
    expect_error(ErrorKind::kInvalidArgument, {"group_size", std::to_string(group)}, [&] {
      check_spec({2, group}, 576, "q_proj");
    });
  }
}

TEST(Grid, NamesParseBack) {
  for (const Grid grid : {Grid::kAsym, Grid::kSignedSym}) EXPECT_EQ(parse_grid(to_string(grid)), grid);
  expect_error(ErrorKind::kInvalidArgument, {"symm", "asym", "signed-sym"}, [] { parse_grid("symm"); });
}

}  // namespace
}  // namespace crumb::quant
