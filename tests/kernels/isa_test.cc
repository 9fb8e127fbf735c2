#include "kernels/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "kernels/registry.h"

namespace crumb::kernels {
namespace {

TEST(Isa, EveryOperationHasTheReferenceAndListsBestFirst) {
  for (const OperationInfo& operation : list_operations()) {
    ASSERT_FALSE(operation.built.empty()) << operation.operation;
    EXPECT_EQ(operation.built.back(), Isa::kRef) << operation.operation;
    for (std::size_t i = 1; i < operation.built.size(); ++i)
      EXPECT_GT(operation.built[i - 1], operation.built[i]) << operation.operation;
  }
}

TEST(Isa, ALimitKeepsBetterVariantsFromRunning) {
  set_isa_limit(Isa::kRef);
  for (const OperationInfo& operation : list_operations())
    EXPECT_EQ(operation.active, Isa::kRef) << operation.operation;
  set_isa_limit(Isa::kAmx);
  for (const OperationInfo& operation : list_operations()) {
    for (const Isa isa : operation.built) {
      if (machine_has(isa)) {
        EXPECT_GE(operation.active, isa) << operation.operation;
      }
    }
  }
}

// The environment is read once a process, so each case is a process of its own.
[[noreturn]] void report_limit(const char* word) {
  setenv("CRUMB_FORCE_ISA", word, 1);
  try {
    std::fprintf(stderr, "limit %s\n", std::string(to_string(isa_limit())).c_str());
    std::exit(0);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::exit(exit_code(error.kind()));
  }
}

TEST(IsaDeathTest, EnvironmentForcesByName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(report_limit("ref"), ::testing::ExitedWithCode(0), "limit ref");
}

TEST(IsaDeathTest, UnknownNameIsRefusedWithTheList) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(report_limit("avx9"), ::testing::ExitedWithCode(exit_code(ErrorKind::kInvalidArgument)),
              "avx9.*available: .*ref");
}

TEST(IsaDeathTest, ASetThatTheMachineLacksIsRefused) {
  if (machine_has(Isa::kAmx)) GTEST_SKIP() << "this machine lacks nothing";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(report_limit("amx"), ::testing::ExitedWithCode(exit_code(ErrorKind::kUnsupported)),
              "amx.*lacks.*available: .*ref");
}

}  // namespace
}  // namespace crumb::kernels
