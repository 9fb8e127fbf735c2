#include "calib/activation_store.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::calib {
namespace {

TEST(ActivationStore, HoldsMassiveActivationsInEveryDtype) {
  for (const StoreDtype dtype : {StoreDtype::kF32, StoreDtype::kBf16}) {
    ActivationStore store(3, 4, 8, {.dtype = dtype});
    at::Tensor x = at::randn({2, 4, 8});
    x[1][0][3] = 1e6;  // binary16 would give infinity
    store.write(1, x);
    const at::Tensor y = store.read(1, 2);
    EXPECT_EQ(y.scalar_type(), at::kFloat);
    EXPECT_LE(((y - x).abs() / (x.abs() + 1e-6)).max().item<double>(),
              dtype == StoreDtype::kF32 ? 0 : 0x1p-8);
  }
}

TEST(ActivationStore, AboveTheLimitIsAFileThatLeavesNothingBehind) {
  const test::TempDir folder;
  {
    ActivationStore small(2, 4, 8, {.directory = folder.path(), .ram_limit_bytes = 256});
    ActivationStore large(3, 4, 8, {.directory = folder.path(), .ram_limit_bytes = 256});
    EXPECT_FALSE(small.mapped());
    ASSERT_TRUE(large.mapped());
    const at::Tensor x = at::randn({3, 4, 8});
    large.write(0, x);
    EXPECT_TRUE(at::equal(large.read(0, 3), x));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // unlinked while in use
  }
}

TEST(ActivationStore, SaysWhenTheFolderOrTheSpaceIsMissing) {
  test::expect_error(ErrorKind::kIo, {"calib.activation_store", "/nonexistent-folder"}, [] {
    ActivationStore store(3, 4, 8, {.directory = "/nonexistent-folder", .ram_limit_bytes = 1});
  });
  const test::TempDir folder;
  test::expect_error(ErrorKind::kIo, {"calib.activation_store", "cannot reserve"}, [&] {
    ActivationStore store(1 << 20, 1 << 14, 1 << 12,
                          {.directory = folder.path(), .ram_limit_bytes = 1});  // 256 TiB
  });
}

}  // namespace
}  // namespace crumb::calib
