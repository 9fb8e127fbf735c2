#include "base/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>

#include "support/expect_error.h"

namespace crumb {
namespace {

class Interrupt : public testing::Test {
 protected:
  void TearDown() override {
    set_interrupted(false);
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
  }
};

TEST_F(Interrupt, ASignalSetsTheFlagAndTheProcessGoesOn) {
  install_interrupt_handler();
  for (const int signal : {SIGINT, SIGTERM}) {
    set_interrupted(false);
    EXPECT_FALSE(interrupted());
    EXPECT_NO_THROW(throw_if_interrupted("test.loop"));
    std::raise(signal);
    EXPECT_TRUE(interrupted());
    test::expect_error(ErrorKind::kInterrupted, {"[test.loop]"}, [] { throw_if_interrupted("test.loop"); });
  }
}

TEST_F(Interrupt, ASecondSignalEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        install_interrupt_handler();
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      testing::ExitedWithCode(130), "");
}

TEST(ErrorKinds, HaveTheirOwnExitCodes) {
  const ErrorKind kinds[] = {ErrorKind::kInvalidArgument, ErrorKind::kNotFound,   ErrorKind::kCorrupt,
                             ErrorKind::kUnsupported,     ErrorKind::kIo,         ErrorKind::kNumerics,
                             ErrorKind::kOutOfMemory,     ErrorKind::kInterrupted};
  const int codes[] = {2, 3, 4, 5, 6, 7, 8, 130};
  for (std::size_t i = 0; i < std::size(kinds); ++i) EXPECT_EQ(exit_code(kinds[i]), codes[i]);
}

TEST(ErrorKinds, FailPutsThePlaceInFront) {
  test::expect_error(ErrorKind::kIo, {"[base.test] file: 3 bytes"},
                     [] { fail(ErrorKind::kIo, "base.test", "file: ", 3, " bytes"); });
}

}  // namespace
}  // namespace crumb
